// SPDX-License-Identifier: Apache-2.0
//
// The folder that a job works in.
#include "agent/job/job.h"
#include "agent/job/snapshot.h"
#include "base/file.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

// outputs/ and logs/ of the source directory are where results go: what is there already becomes
// the run's, and an empty folder stays behind to mount on.
static int move_results(const struct run *run, const char *name, struct error *err)
{
	cleanup_free char *in_code = path_join("code", name);
	struct stat st;
	if (fstatat(run->fd, in_code, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (!S_ISDIR(st.st_mode))
			return error_set(err, ERROR_INVALID,
				"source_directory/%s is not a folder; the job's results go there",
				name);
		if (renameat(run->fd, in_code, run->fd, name) < 0)
			return error_set_errno(err, errno, "move %s", in_code);
	}
	if (mkdirat(run->fd, in_code, 0755) < 0)
		return error_set_errno(err, errno, "make %s", in_code);
	return 0;
}

int job_snapshot(const struct job *job, struct error *err)
{
	struct stat state;
	if (mkdirat(job->run->fd, "code", 0755) < 0)
		return error_set_errno(err, errno, "make %s/code", job->run->path);
	if (job->spec->source_directory) {
		cleanup_fd int source = directory_open(AT_FDCWD, job->spec->source_directory, err);
		cleanup_fd int code = source < 0 ? -1 : directory_open(job->run->fd, "code", err);
		if (code < 0)
			return error_context(err, "source_directory");
		if (fstat(job->store->state_fd, &state) < 0)
			return error_set_errno(err, errno, "stat %s", job->store->state_dir);
		if (snapshot_copy(source, code, state.st_dev, state.st_ino, err) < 0)
			return error_context(err, "copy of source_directory");
	}
	return move_results(job->run, "outputs", err) < 0 || move_results(job->run, "logs", err) < 0
		       ? -1
		       : 0;
}
