// SPDX-License-Identifier: Apache-2.0
#include "agent/job/job.h"
#include "agent/job/sandbox.h"
#include "agent/job/snapshot.h"
#include "agent/job/variables.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/rootfs.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NODE_FILE_MAX = 256 * 1024, RUN_BINDS = 3 };

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

static int take_snapshot(const struct job *job, struct error *err)
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

// Releases mounts and descriptors by leaving.
static int run_container(const struct job *job, struct sandbox *sandbox,
	struct watch_result *result, enum cause_phase *phase, struct error *err)
{
	cleanup_container struct container c = {.status_fd = -1};
	cleanup_output struct output output = {.pipe_fd = -1, .file_fd = -1, .echo_fd = -1};
	cleanup_watch struct watch *watch = watch_new(JOB_GRACE_MS, err);
	cleanup_fd int write_fd = -1;
	*phase = CAUSE_STARTING;
	if (!watch ||
		output_open(&output, job->run->fd, "user_logs/std_log.txt", job->echo_fd, &write_fd,
			err) < 0 ||
		sandbox_start(sandbox, job->stdin_fd, write_fd, &c, err) < 0)
		return -1;
	close_fdp(&write_fd);
	write_fd = -1;
	*phase = CAUSE_RUNNING;
	if (run_enter(job->run, RUN_RUNNING, "running", err) < 0 ||
		watch_run(watch, &c, &output, result, err) < 0 ||
		run_enter(job->run, RUN_FINALIZING, "finalizing", err) < 0)
		return -1;
	output_finish_echo(&output);
	return 0;
}

int job_execute(const struct job *job, struct watch_result *result, enum cause_phase *phase,
	struct error *err)
{
	struct sandbox sandbox;
	struct error ignored;
	*phase = CAUSE_PREPARING;
	if (take_snapshot(job, err) < 0 ||
		sandbox_open(&sandbox, job, &sandbox_limits_default, err) < 0)
		return -1;
	int rc = run_container(job, &sandbox, result, phase, err);
	return sandbox_close(&sandbox, rc < 0 ? &ignored : err) < 0 ? -1 : rc;
}
