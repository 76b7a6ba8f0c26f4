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

static int make_code(const struct run *run, int source_fd, const struct snapshot_limits *limits,
	struct error *err)
{
	cleanup_fd int code = directory_ensure(run->fd, "code", 0755, err);
	if (code < 0)
		return error_context(err, "%s", run->path);
	if (source_fd >= 0 && snapshot_copy(source_fd, code, limits, err) < 0)
		return error_context(err, "copy of source_directory");
	// A further attempt begins with the outputs of the one before, those of the source
	// included.
	if (run->attempt > 1 && directory_remove(run->fd, "code/outputs", err) < 0)
		return -1;
	return move_results(run, "outputs", err) < 0 || move_results(run, "logs", err) < 0 ? -1 : 0;
}

static int keep_source(const struct run *run, int source_fd, const struct snapshot_limits *limits,
	struct error *err)
{
	cleanup_free char *name = xasprintf("%s/source", run->id);
	cleanup_fd int kept = directory_ensure(run->runs_fd, name, 0700, err);
	return kept < 0 ? -1 : snapshot_copy(source_fd, kept, limits, err);
}

int job_snapshot(const struct job *job, const struct job_policy *policy, struct error *err)
{
	if (!job->spec->source_directory)
		return make_code(job->run, -1, NULL, err);
	const struct snapshot_limits limits =
		job_snapshot_limits(job->spec, policy, job->store->state_dir);
	cleanup_fd int source = directory_open(AT_FDCWD, job->spec->source_directory, err);
	if (source < 0)
		return error_context(err, "source_directory");
	if (job->spec->max_retries && keep_source(job->run, source, &limits, err) < 0)
		return error_context(err, "copy of source_directory");
	return make_code(job->run, source, &limits, err);
}

int job_snapshot_again(const struct job *job, struct error *err)
{
	const struct snapshot_limits limits = {.bytes = UINT64_MAX, .files = UINT64_MAX};
	cleanup_free char *name = xasprintf("%s/source", job->run->id);
	cleanup_fd int source = directory_open(job->run->runs_fd, name, err);
	if (source < 0 && err->kind != ERROR_NOT_FOUND)
		return -1;
	error_clear(err);
	return make_code(job->run, source, &limits, err);
}
