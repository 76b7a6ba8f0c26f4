// SPDX-License-Identifier: Apache-2.0
// Single flight and folders of builds. What a killed builder leaves is known by its lock, which
// went with the process.
#include "agent/environment/records_internal.h"
#include "agent/job/ownership.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/store/entries.h"

#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUILD_TRIES = 100 };

int environment_lock_take(struct store *s, const char *request_key, int *fd, struct error *err)
{
	if (records_check_key(request_key, err) < 0)
		return -1;
	cleanup_fd int folder = records_folder(s, "locks", err);
	if (folder < 0)
		return -1;
	int got = store_lock_open(folder, request_key, O_RDWR | O_CREAT, LOCK_EX, fd, err);
	return got < 0 ? -1 : got == STORE_LOCKED ? 0 : 1;
}

// 0 with the folder, 1: a sweep took it before it was locked.
static int make_folder(int builds, int *fd, char name[32], struct error *err)
{
	uint64_t random;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return error_set_errno(err, errno, "getrandom");
	snprintf(name, 32, "%016llx", (unsigned long long)random);
	if (mkdirat(builds, name, 0755) < 0)
		return errno == EEXIST ? 1 : error_set_errno(err, errno, "make a folder");
	// Shared: the supervisor of a step may hold it as well.
	int got = store_lock_open(builds, name, O_RDONLY | O_DIRECTORY, LOCK_SH, fd, err);
	return got < 0 ? -1 : got == STORE_LOCKED ? 0 : 1;
}

int environment_build_folder(struct store *s, int *fd, char **path, struct error *err)
{
	cleanup_fd int builds = records_folder(s, "build", err);
	char name[32];
	int got = builds < 0 ? -1 : 1;
	for (int i = 0; got == 1 && i < BUILD_TRIES; i++)
		got = make_folder(builds, fd, name, err);
	if (got < 0)
		return error_context(err, "%s/environments/build", s->state_dir);
	if (got)
		return error_set(err, ERROR_UNAVAILABLE,
			"make a folder in %s/environments/build: it vanishes all the time",
			s->state_dir);
	*path = xasprintf("%s/environments/build/%s", s->state_dir, name);
	return 0;
}

static int remove_folder(int builds, const char *name, struct error *err)
{
	cleanup_fd int fd = openat(builds, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	// A container's users have made files in it; without root those are not ours to remove.
	if (fd >= 0 && ownership_take_back(fd, err) < 0)
		return -1;
	return directory_remove(builds, name, err);
}

int environment_build_remove(struct store *s, const char *path, struct error *err)
{
	cleanup_fd int builds = records_folder(s, "build", err);
	if (builds < 0 || remove_folder(builds, path_base(path), err) < 0)
		return error_context(err, "remove %s", path);
	return 0;
}

static void sweep_builds(struct store *s)
{
	cleanup_arena struct arena a = {0};
	struct store_names names;
	struct error ignored;
	cleanup_fd int builds =
		openat(s->state_fd, "environments/build", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (builds < 0 || store_names(builds, ".", &a, &names, &ignored) < 0)
		return;
	for (size_t i = 0; i < names.count; i++) {
		cleanup_fd int fd = -1;
		// Failures (a mount that a dying sandbox still has in it) are left for the next
		// one.
		if (store_lock_open(builds, names.items[i], O_RDONLY, LOCK_EX, &fd, &ignored) ==
			STORE_LOCKED)
			remove_folder(builds, names.items[i], &ignored);
	}
}

static void sweep_locks(struct store *s)
{
	cleanup_arena struct arena a = {0};
	struct store_names names;
	struct error ignored;
	cleanup_fd int locks =
		openat(s->state_fd, "environments/locks", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (locks < 0 || store_names(locks, ".", &a, &names, &ignored) < 0)
		return;
	for (size_t i = 0; i < names.count; i++) {
		cleanup_fd int fd = -1;
		if (store_lock_open(locks, names.items[i], O_RDONLY, LOCK_EX, &fd, &ignored) ==
			STORE_LOCKED)
			unlinkat(locks, names.items[i], 0);
	}
}

// Answers that say nothing any more, and what a killed writer left beside the files.
static void sweep_files(struct store *s, const char *folder, bool answers)
{
	cleanup_arena struct arena a = {0};
	struct store_names names;
	struct environment_answer answer;
	struct error ignored;
	struct stat st;
	cleanup_free char *path = xasprintf("environments%s", folder);
	cleanup_fd int fd = openat(s->state_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || store_names(fd, ".", &a, &names, &ignored) < 0)
		return;
	for (size_t i = 0; i < names.count; i++) {
		const char *name = names.items[i];
		size_t n = strlen(name);
		const char *key = arena_strndup(&a, name, n > 5 ? n - 5 : 0);
		bool record = ends_with(name, ".json") && records_is_key(key);
		if (record ? answers && environment_answer_read(s, &a, key, &answer, &ignored) == 0
			   : fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
					S_ISREG(st.st_mode) && st.st_mtime < time(NULL) - 3600)
			unlinkat(fd, name, 0);
	}
}

void environment_build_sweep(struct store *s)
{
	sweep_builds(s);
	sweep_locks(s);
	sweep_files(s, "", false);
	sweep_files(s, "/requests", true);
	sweep_files(s, "/tools", false);
}
