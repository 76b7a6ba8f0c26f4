// SPDX-License-Identifier: Apache-2.0
//
// Ending the runs whose process was killed.
#include "agent/data/data.h"
#include "agent/job/other_runtime.h"
#include "agent/job/ownership.h"
#include "agent/job/run.h"
#include "agent/job/run_document.h"
#include "base/file.h"

#include <dirent.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DESTROY_MS = 5000 };

int run_folder_make(struct store *s, const char *id, struct error *err)
{
	cleanup_free char *name = xasprintf("runs/%s", id);
	return directory_ensure(s->run_fd, name, 0700, err);
}

// Secrets are a file system in memory there, which a killed supervisor leaves mounted, as it does
// the inputs.
void run_folder_remove(struct store *s, const char *id)
{
	struct error ignored;
	cleanup_free char *name = xasprintf("runs/%s", id);
	cleanup_free char *secrets = xasprintf("%s/%s/secrets", s->run_dir, name);
	cleanup_free char *inputs = xasprintf("%s/inputs", name);
	cleanup_fd int inputs_fd =
		openat(s->run_fd, inputs, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (inputs_fd >= 0)
		data_sweep(inputs_fd, &ignored);
	umount2(secrets, MNT_DETACH | UMOUNT_NOFOLLOW);
	directory_remove(s->run_fd, name, &ignored);
}

static bool has_folder(struct store *s, const char *id)
{
	struct stat st;
	cleanup_free char *name = xasprintf("runs/%s", id);
	return fstatat(s->run_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

// What a killed supervisor left: its job dies with it, but a process that the kernel cannot end at
// once, or that was started into the container from outside, may still be there.
static int end_group(int attempt_fd, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct run_summary summary;
	if (run_document_read(attempt_fd, &a, &summary, err) < 0)
		return -1;
	if (!summary.cgroup || run_state_is_end(summary.state))
		return 0;
	cleanup_cgroup struct cgroup *group = cgroup_open(summary.cgroup, err);
	if (!group && err->kind != ERROR_NOT_FOUND)
		return -1;
	error_clear(err);
	return group ? cgroup_destroy(group, DESTROY_MS, err) : 0;
}

int run_leftovers_end(struct store *s, const char *id, int attempt_fd, struct error *err)
{
	if (end_group(attempt_fd, err) < 0 || ownership_take_back(attempt_fd, err) < 0)
		return -1;
	other_runtime_forget(s, id);
	return 0;
}

// The lock file goes last, so that a sweep that is killed is done again.
static void sweep_one(struct store *s, int runs_fd, int active_fd, const char *id)
{
	struct error err = {0};
	cleanup_fd int lock = openat(active_fd, id, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (lock < 0 || file_lock(lock, LOCK_EX | LOCK_NB, id, &err) != 0)
		return;
	cleanup_fd int fd = run_attempt_open(runs_fd, id, run_attempt_last(runs_fd, id), &err);
	cleanup_free char *next = xasprintf("%s/.next", id), *source = xasprintf("%s/source", id);
	if (fd >= 0 &&
		(run_leftovers_end(s, id, fd, &err) < 0 || run_remove_scratch(fd, &err) < 0 ||
			run_document_interrupt(fd, has_folder(s, id), &err) < 0 ||
			directory_remove(runs_fd, next, &err) < 0 ||
			directory_remove(runs_fd, source, &err) < 0))
		return;
	run_folder_remove(s, id);
	unlinkat(active_fd, id, 0);
}

// Folders in the run directory whose runs have ended: the supervisor was killed at its last breath.
static void sweep_folders(struct store *s, int runs_fd)
{
	int fd = openat(s->run_fd, "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	if (!folder)
		return;
	for (struct dirent *e; (e = readdir(folder)) != NULL;) {
		struct stat st;
		cleanup_free char *lock = xasprintf(".active/%s", e->d_name);
		if (e->d_name[0] != '.' && fstatat(runs_fd, lock, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
			errno == ENOENT)
			run_folder_remove(s, e->d_name);
	}
	closedir(folder);
}

void run_sweep(struct store *s)
{
	cleanup_fd int runs_fd = openat(s->state_fd, "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (runs_fd < 0)
		return;
	int active_fd = openat(runs_fd, ".active", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *active = active_fd < 0 ? NULL : fdopendir(active_fd);
	if (!active)
		return;
	for (struct dirent *e; (e = readdir(active)) != NULL;)
		if (e->d_name[0] != '.')
			sweep_one(s, runs_fd, active_fd, e->d_name);
	closedir(active);
	sweep_folders(s, runs_fd);
}
