// SPDX-License-Identifier: Apache-2.0
//
// The folders of base/file.h.
#include "base/file.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_directory(int dirfd, const char *path)
{
	struct stat st;
	return fstatat(dirfd, path, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

// mkdir(2) cuts the mode by the umask; we were told an exact one. A set-group-ID bit that the
// parent passed on stays.
static int make_one(int dirfd, const char *path, mode_t mode)
{
	if (mkdirat(dirfd, path, mode) < 0)
		return -1;
	cleanup_fd int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	if ((st.st_mode & 07777 & ~(mode_t)S_ISGID) == (mode & ~(mode_t)S_ISGID))
		return 0;
	return fchmod(fd, mode | (st.st_mode & S_ISGID));
}

int directory_make(int dirfd, const char *path, mode_t mode, struct error *err)
{
	// The usual cases cost one call.
	if (is_directory(dirfd, path) || make_one(dirfd, path, mode) == 0)
		return 0;
	cleanup_free char *part = xstrdup(path);
	for (char *p = part + strspn(part, "/"); *p;) {
		char *end = p + strcspn(p, "/");
		char kept = *end;
		*end = '\0';
		// Looked at only after a failure: EEXIST, but also EROFS or EACCES, are fine where
		// the folder is there; another process may have made it just now.
		if (!is_directory(dirfd, part) && make_one(dirfd, part, mode) < 0) {
			int sys = errno;
			if (!is_directory(dirfd, part))
				return error_set_errno(
					err, sys == EEXIST ? ENOTDIR : sys, "make folder %s", part);
		}
		*end = kept;
		p = end + strspn(end, "/");
	}
	if (!is_directory(dirfd, path))
		return error_set_errno(err, *path ? ENOTDIR : ENOENT, "make folder %s", path);
	return 0;
}

int directory_open(int dirfd, const char *path, struct error *err)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "open folder %s", path);
	return fd;
}

int directory_ensure(int dirfd, const char *path, mode_t mode, struct error *err)
{
	if (directory_make(dirfd, path, mode, err) < 0)
		return -1;
	return directory_open(dirfd, path, err);
}
