// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"

#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { READ_STEP = 64 * 1024, NAME_TRIES = 100, OPEN_TRIES = 32 };

void close_fdp(int *fd)
{
	int saved = errno;
	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

void keep_only_fds(int *kept, size_t count)
{
	unsigned from = 3;
	qsort(kept, count, sizeof(*kept), compare);
	for (size_t i = 0; i < count; i++) {
		if (kept[i] < (int)from)
			continue;
		if ((unsigned)kept[i] > from)
			syscall(SYS_close_range, from, (unsigned)kept[i] - 1, 0);
		from = (unsigned)kept[i] + 1;
	}
	syscall(SYS_close_range, from, ~0U, 0);
}

int file_read_fd(int fd, const char *name, size_t limit, struct buffer *b, struct error *err)
{
	struct stat st;
	size_t before = b->size, step = READ_STEP;
	// The size is a hint that saves copies; files in /proc state 0.
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
		(uint64_t)st.st_size <= limit)
		step = (size_t)st.st_size + 1;
	for (;;) {
		size_t total = b->size - before;
		if (total > limit) {
			b->size = before;
			b->data[before] = '\0';
			return error_set(err, ERROR_LIMIT, "%s: larger than the limit of %zu bytes",
				name, limit);
		}
		// One byte more than allowed, to tell "exactly the limit" from "more".
		size_t want = limit - total < step ? limit - total + 1 : step;
		ssize_t n = read(fd, buffer_reserve(b, want), want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int sys = errno;
			b->size = before;
			b->data[before] = '\0';
			return error_set_errno(err, sys, "read %s", name);
		}
		buffer_commit(b, (size_t)n);
		if (n == 0)
			return 0;
		step = READ_STEP;
	}
}

int file_read(int dirfd, const char *path, size_t limit, struct buffer *b, struct error *err)
{
	cleanup_fd int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return error_set_errno(err, errno, "open %s", path);
	return file_read_fd(fd, path, limit, b, err);
}

// After a failed write: may it be tried again?
static bool write_again(int fd)
{
	if (errno == EAGAIN) {
		struct pollfd p = {.fd = fd, .events = POLLOUT};
		poll(&p, 1, -1); // whatever it says, the next write tells
		return true;
	}
	return errno == EINTR;
}

int write_all(int fd, const void *data, size_t size, const char *name, struct error *err)
{
	for (const char *p = data; size;) {
		ssize_t n = write(fd, p, size);
		if (n < 0 && write_again(fd))
			continue;
		if (n <= 0)
			return error_set_errno(err, n < 0 ? errno : EIO, "write %s", name);
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

int pwrite_all(
	int fd, const void *data, size_t size, off_t offset, const char *name, struct error *err)
{
	for (const char *p = data; size;) {
		ssize_t n = pwrite(fd, p, size, offset);
		if (n < 0 && write_again(fd))
			continue;
		if (n <= 0)
			return error_set_errno(err, n < 0 ? errno : EIO, "write %s", name);
		p += n;
		size -= (size_t)n;
		offset += n;
	}
	return 0;
}

// Create ".name.XXXXXX.tmp" in the folder. The name comes back in `temporary`.
static int create_temporary(
	int folder, const char *name, char temporary[NAME_MAX + 1], struct error *err)
{
	static const char letters[32] = "abcdefghijklmnopqrstuvwxyz234567";
	for (int i = 0; i < NAME_TRIES; i++) {
		unsigned char random[6];
		if (getrandom(random, sizeof(random), 0) != sizeof(random))
			return error_set_errno(err, errno, "getrandom");
		char suffix[sizeof(random) + 1] = {0};
		for (size_t k = 0; k < sizeof(random); k++)
			suffix[k] = letters[random[k] % sizeof(letters)];
		snprintf(temporary, NAME_MAX + 1, ".%.200s.%s.tmp", name, suffix);
		// 0600 until the bytes and the final mode are there.
		int fd = openat(folder, temporary,
			O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd >= 0)
			return fd;
		if (errno != EEXIST)
			return error_set_errno(err, errno, "create %s", temporary);
	}
	return error_set_errno(err, EEXIST, "create a temporary file for %s", name);
}

static int fill_and_rename(int folder, int fd, const char *temporary, const char *name,
	const void *data, size_t size, mode_t mode, struct error *err)
{
	if (write_all(fd, data, size, name, err) < 0)
		return -1;
	if (fchmod(fd, mode) < 0)
		return error_set_errno(err, errno, "set the mode of %s", name);
	if (fsync(fd) < 0)
		return error_set_errno(err, errno, "fsync %s", name);
	if (renameat(folder, temporary, folder, name) < 0)
		return error_set_errno(err, errno, "rename %s to %s", temporary, name);
	return 0;
}

int file_write_atomic(
	int dirfd, const char *path, const void *data, size_t size, mode_t mode, struct error *err)
{
	const char *name = path_base(path);
	if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return error_set(err, ERROR_INVALID, "write %s: not the name of a file", path);
	cleanup_free char *parent =
		name == path ? xstrdup(".") : xstrndup(path, (size_t)(name - path));
	cleanup_fd int folder = directory_open(dirfd, parent, err);
	if (folder < 0)
		return error_context(err, "write %s", path);
	char temporary[NAME_MAX + 1];
	cleanup_fd int fd = create_temporary(folder, name, temporary, err);
	if (fd < 0)
		return error_context(err, "write %s", path);
	if (fill_and_rename(folder, fd, temporary, name, data, size, mode, err) < 0) {
		unlinkat(folder, temporary, 0);
		return error_context(err, "write %s", path);
	}
	if (fsync(folder) < 0)
		return error_set_errno(err, errno, "fsync the folder of %s", path);
	return 0;
}

int file_open_beneath(int dirfd, const char *path, int flags, mode_t mode, uint64_t extra_resolve,
	struct error *err)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)flags | O_CLOEXEC,
		// The kernel refuses a mode where nothing can be created.
		.mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? mode & 07777 : 0,
		.resolve = RESOLVE_NO_MAGICLINKS | extra_resolve,
	};
	if (!(extra_resolve & RESOLVE_IN_ROOT))
		how.resolve |= RESOLVE_BENEATH;
	long fd;
	int tries = 0;
	do // EAGAIN: a rename elsewhere raced with a ".." in the path (openat2(2))
		fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || (errno == EAGAIN && ++tries < OPEN_TRIES)));
	if (fd >= 0)
		return (int)fd;
	int sys = errno;
	if (sys == ENOSYS)
		return error_set(err, ERROR_SYSTEM,
			"open %s: this kernel has no openat2(2); Linux 5.6 or newer is needed",
			path);
	if (sys == EXDEV)
		error_set(
			err, ERROR_INVALID, "open %s: the path leads outside of its folder", path);
	else
		error_set_errno(err, sys, "open %s", path);
	if (sys == ELOOP) // refused links and rings of them are the path's fault
		err->kind = ERROR_INVALID;
	err->sys = sys;
	return -1;
}

int file_lock(int fd, int operation, const char *name, struct error *err)
{
	while (flock(fd, operation) < 0) {
		if (errno == EWOULDBLOCK && operation & LOCK_NB)
			return 1;
		if (errno != EINTR)
			return error_set_errno(err, errno, "lock %s", name);
	}
	return 0;
}

char *path_join(const char *a, const char *b)
{
	size_t n = strlen(a);
	return xasprintf("%s%s%s", a, n && a[n - 1] != '/' ? "/" : "", b);
}

const char *path_base(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

char *path_absolute(const char *path, struct error *err)
{
	if (!*path) {
		error_set(err, ERROR_INVALID, "the path is empty");
		return NULL;
	}
	if (*path == '/')
		return xstrdup(path);
	cleanup_free char *current = getcwd(NULL, 0);
	if (!current) {
		error_set_errno(err, errno, "current folder");
		return NULL;
	}
	if (*current != '/') { // "(unreachable)/…", getcwd(3)
		error_set(err, ERROR_SYSTEM, "the current folder is outside of the root folder");
		return NULL;
	}
	while (path[0] == '.' && (path[1] == '/' || !path[1]))
		path += path[1] ? 2 + strspn(path + 2, "/") : 1;
	return *path ? path_join(current, path) : steal(current);
}

bool file_exists(int dirfd, const char *path)
{
	struct stat st;
	return fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int file_hash(
	int fd, const char *name, uint64_t at, uint64_t end, struct sha256 *h, struct error *err)
{
	enum { PIECE = 128 * 1024 };
	cleanup_free char *piece = xmalloc(PIECE);
	while (at < end) {
		size_t want = end - at < PIECE ? (size_t)(end - at) : PIECE;
		ssize_t n = pread(fd, piece, want, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, errno, "read %s", name);
		if (n == 0)
			return error_set(err, ERROR_INTEGRITY, "%s shrank while it was read", name);
		sha256_update(h, piece, (size_t)n);
		at += (uint64_t)n;
	}
	return 0;
}

int file_sha256(
	int fd, const char *name, uint64_t size, char hex[SHA256_HEX_SIZE], struct error *err)
{
	cleanup_sha256 struct sha256 *h = sha256_new();
	uint8_t digest[SHA256_SIZE];
	if (file_hash(fd, name, 0, size, h, err) < 0)
		return -1;
	sha256_final(h, digest);
	sha256_hex(digest, hex);
	return 0;
}

int file_check_private(int dirfd, const char *path, int flags, struct error *err)
{
	struct stat st;
	if (fstatat(dirfd, path, &st, flags) == 0 && (st.st_mode & 077))
		return error_set(err, ERROR_DENIED,
			"%s can be read by others; make it yours alone: chmod 600 %s", path, path);
	return 0;
}
