// SPDX-License-Identifier: Apache-2.0
#include "oci/store/entries.h"

#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOCK_TRIES = 1000 };

bool store_same_file(int fd, int dirfd, const char *name)
{
	struct stat a, b;
	return fstat(fd, &a) == 0 && fstatat(dirfd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int store_lock_open(
	int dirfd, const char *name, int flags, int operation, int *fd, struct error *err)
{
	// Each turn means that another process replaced the file in between; 1,000 times in a row
	// is a bug.
	for (int i = 0; i < LOCK_TRIES; i++) {
		cleanup_fd int file =
			openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
		if (file < 0 && errno == ENOENT)
			return STORE_LOCK_GONE;
		if (file < 0)
			return error_set_errno(err, errno, "open %s", name);
		int busy = file_lock(file, operation | LOCK_NB, name, err);
		if (busy < 0)
			return -1;
		if (!store_same_file(file, dirfd, name))
			continue;
		if (busy)
			return STORE_LOCK_BUSY;
		*fd = steal_fd(&file);
		return STORE_LOCKED;
	}
	return error_set(err, ERROR_UNAVAILABLE, "lock %s: it is replaced all the time", name);
}

int store_names(int dirfd, const char *folder, struct arena *a, struct store_names *names,
	struct error *err)
{
	*names = (struct store_names){0};
	// A description of our own: the offset of the folder's would be shared with everybody.
	int fd = openat(dirfd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "open folder %s", folder);
	DIR *d = fdopendir(fd);
	if (!d) {
		int sys = errno;
		close(fd);
		return error_set_errno(err, sys, "read folder %s", folder);
	}
	size_t capacity = 0;
	for (struct dirent *e; (errno = 0, e = readdir(d));) {
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (names->count == capacity) {
			const char **old = names->items;
			capacity = capacity ? capacity * 2 : 16;
			names->items = arena_array(a, const char *, capacity);
			if (names->count)
				memcpy(names->items, old, names->count * sizeof(*old));
		}
		names->items[names->count++] = arena_strdup(a, e->d_name);
	}
	int sys = errno;
	closedir(d);
	if (sys)
		return error_set_errno(err, sys, "read folder %s", folder);
	return 0;
}
