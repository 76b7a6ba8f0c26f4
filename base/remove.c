// SPDX-License-Identifier: Apache-2.0
//
// directory_remove() of base/file.h. The tree may be a job's: as deep as it likes, with folders
// that forbid entry, and with a process that still swaps folders for links while we work. So every
// step is one name relative to a held descriptor, a folder is entered by openat2(2) that follows
// nothing and crosses no mount, and going up by ".." is checked against the device and inode seen
// on the way down.
#include "base/file.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// Streams open at a time; those of the outer folders beyond are closed and opened again on the way
// up.
enum { STREAMS_OPEN = 32, SCANS_MOST = 100, TRIES_MOST = 4 };

struct level {
	char *name;  // in the folder above
	DIR *stream; // NULL: closed for a while
	dev_t device;
	ino_t inode;
	unsigned scans;
};

struct removal {
	const char *path; // for errors
	int parent;	  // folder that holds the tree
	struct level *levels;
	size_t depth, capacity;
};

static void removal_release(struct removal *r)
{
	for (size_t i = 0; i < r->depth; i++) {
		if (r->levels[i].stream)
			closedir(r->levels[i].stream);
		free(r->levels[i].name);
	}
	free(r->levels);
	close_fdp(&r->parent);
}

static int fail(const struct removal *r, int sys, const char *name, struct error *err)
{
	if (sys == EXDEV || sys == EBUSY)
		error_set(err, ERROR_SYSTEM, "remove %s: '%s' is a mount point; unmount it first",
			r->path, name);
	else
		error_set_errno(err, sys, "remove %s: '%s'", r->path, name);
	err->sys = sys;
	return -1;
}

// Open a folder by its name in another: no link, no mount point. -1 with errno.
static int enter(int folder, const char *name)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};
	bool allowed = false;
	for (;;) {
		int fd = (int)syscall(SYS_openat2, folder, name, &how, sizeof(how));
		if (fd >= 0 || errno == ENOENT)
			return fd;
		if (errno == EINTR || errno == EAGAIN)
			continue;
		// Our own folder without the right to read it. AT_SYMLINK_NOFOLLOW: it may be a
		// link by now.
		if (errno != EACCES || allowed ||
			fchmodat(folder, name, 0700, AT_SYMLINK_NOFOLLOW) < 0)
			return -1;
		allowed = true;
	}
}

static int push(struct removal *r, int fd, const char *name, struct error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0) {
		int sys = errno;
		close(fd);
		return fail(r, sys, name, err);
	}
	// Names can be unlinked, and ".." opened, only with all three bits. Where it is not ours to
	// change, the unlink says so.
	if ((st.st_mode & 0700) != 0700)
		fchmod(fd, (st.st_mode & 07777) | 0700);
	DIR *stream = fdopendir(fd);
	if (!stream) {
		int sys = errno;
		close(fd);
		return fail(r, sys, name, err);
	}
	if (r->depth == r->capacity) {
		r->capacity = r->capacity ? r->capacity * 2 : 16;
		r->levels = xreallocarray(r->levels, r->capacity, sizeof(*r->levels));
	}
	r->levels[r->depth++] = (struct level){
		.name = xstrdup(name), .stream = stream, .device = st.st_dev, .inode = st.st_ino};
	if (r->depth > STREAMS_OPEN) {
		struct level *outer = &r->levels[r->depth - 1 - STREAMS_OPEN];
		if (outer->stream)
			closedir(outer->stream);
		outer->stream = NULL;
	}
	return 0;
}

// The stream of the level above the innermost, opened again by ".." where it had been closed.
static int reopen_outer(struct removal *r, struct error *err)
{
	struct level *outer = &r->levels[r->depth - 2], *inner = &r->levels[r->depth - 1];
	if (outer->stream)
		return 0;
	cleanup_fd int fd = openat(dirfd(inner->stream), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(r, errno, inner->name, err);
	if (st.st_dev != outer->device || st.st_ino != outer->inode)
		return error_set(err, ERROR_SYSTEM,
			"remove %s: the folder '%s' was moved while it was being removed", r->path,
			inner->name);
	outer->stream = fdopendir(fd);
	if (!outer->stream)
		return fail(r, errno, outer->name, err);
	steal_fd(&fd);
	return 0;
}

// The innermost folder has been read to its end: remove it and go up.
static int pop(struct removal *r, struct error *err)
{
	struct level *inner = &r->levels[r->depth - 1];
	if (r->depth > 1 && reopen_outer(r, err) < 0)
		return -1;
	int above = r->depth > 1 ? dirfd(r->levels[r->depth - 2].stream) : r->parent;
	if (unlinkat(above, inner->name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
		// Some file systems skip entries when others go away while they are read, and
		// somebody may still be writing.
		if ((errno == ENOTEMPTY || errno == EEXIST) && ++inner->scans < SCANS_MOST) {
			rewinddir(inner->stream);
			return 0;
		}
		return fail(r, errno, inner->name, err);
	}
	closedir(inner->stream);
	free(inner->name);
	r->depth--;
	return 0;
}

// Remove one name of a folder; a folder is entered instead.
static int remove_entry(
	struct removal *r, int folder, const char *name, unsigned char type, struct error *err)
{
	// It may turn from one kind into the other under our hands.
	for (int i = 0; i < TRIES_MOST; i++) {
		if (type != DT_DIR) {
			if (unlinkat(folder, name, 0) == 0 || errno == ENOENT)
				return 0;
			if (errno != EISDIR)
				return fail(r, errno, name, err);
		}
		int fd = enter(folder, name);
		if (fd >= 0)
			return push(r, fd, name, err);
		if (errno == ENOENT)
			return 0;
		if (errno != ENOTDIR && errno != ELOOP)
			return fail(r, errno, name, err);
		type = DT_UNKNOWN;
	}
	return error_set(err, ERROR_SYSTEM, "remove %s: '%s' keeps changing", r->path, name);
}

static int remove_tree(struct removal *r, const char *name, struct error *err)
{
	if (remove_entry(r, r->parent, name, DT_UNKNOWN, err) < 0)
		return -1;
	while (r->depth) {
		DIR *stream = r->levels[r->depth - 1].stream;
		errno = 0;
		struct dirent *e = readdir(stream);
		if (!e && errno)
			return fail(r, errno, r->levels[r->depth - 1].name, err);
		if (!e) {
			if (pop(r, err) < 0)
				return -1;
			continue;
		}
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (remove_entry(r, dirfd(stream), e->d_name, e->d_type, err) < 0)
			return -1;
	}
	return 0;
}

int directory_remove(int dirfd, const char *path, struct error *err)
{
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		n--;
	cleanup_free char *whole = xstrndup(path, n);
	const char *name = path_base(whole);
	if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return error_set(err, ERROR_INVALID, "remove %s: not the name of a folder", path);
	cleanup_free char *parent =
		name == whole ? xstrdup(".") : xstrndup(whole, (size_t)(name - whole));
	__attribute__((cleanup(removal_release))) struct removal r = {.path = path, .parent = -1};
	r.parent = openat(dirfd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r.parent < 0)
		return errno == ENOENT ? 0 : error_set_errno(err, errno, "remove %s", path);
	return remove_tree(&r, name, err);
}
