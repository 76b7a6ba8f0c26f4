// SPDX-License-Identifier: Apache-2.0
#include "agent/data/copy.h"

#include "base/file.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/time.h"
#include "oci/store/entries.h"

#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEP = 16 * 1024 * 1024, DEPTH_MAX = 200, TELL_MS = 100 };

static int fail(struct copy *c, enum data_failure failure)
{
	c->failure = failure;
	return -1;
}

static int system_failed(struct copy *c, const char *name, struct error *err)
{
	int sys = errno;
	error_set_errno(err, sys, "copy %.200s", name);
	return fail(c, sys == ENOSPC || sys == EDQUOT  ? DATA_NO_SPACE
		       : sys == EACCES || sys == EPERM ? DATA_FORBIDDEN
						       : DATA_FAILED);
}

static int look_up(struct copy *c, struct error *err)
{
	int64_t now = now_ms();
	if (now - c->told_ms < TELL_MS)
		return 0;
	c->told_ms = now;
	if (c->progress && c->progress(c->data, c->bytes)) {
		error_set(err, ERROR_UNAVAILABLE, "canceled");
		return fail(c, DATA_FAILED);
	}
	if (now >= c->deadline) {
		error_set(err, ERROR_LIMIT, "not copied in time");
		return fail(c, DATA_TIMEOUT);
	}
	return 0;
}

// Where neither reflink nor copy_file_range(2) can: between some file systems.
static ssize_t copy_by_hand(int from, int to)
{
	char buffer[64 * 1024];
	struct error ignored;
	ssize_t n = read(from, buffer, sizeof(buffer));
	if (n > 0 && write_all(to, buffer, (size_t)n, "copy", &ignored) < 0) {
		errno = ignored.sys;
		return -1;
	}
	return n;
}

static int count(struct copy *c, uint64_t bytes, const char *name, struct error *err)
{
	char text[FORMAT_SIZE_MAX];
	c->bytes += bytes;
	if (c->max_bytes && c->bytes > c->max_bytes) {
		error_set(err, ERROR_LIMIT, "%.200s: it has more than the limit of %s in all", name,
			format_size(c->max_bytes, text));
		return fail(c, DATA_TOO_LARGE);
	}
	return look_up(c, err);
}

static int copy_bytes(struct copy *c, int from, int to, const char *name, struct error *err)
{
	struct stat st;
	bool by_hand = false;
	if (fstat(from, &st) < 0)
		return system_failed(c, name, err);
	if (ioctl(to, FICLONE, from) == 0)
		return count(c, (uint64_t)st.st_size, name, err);
	for (;;) {
		ssize_t n = by_hand ? copy_by_hand(from, to)
				    : copy_file_range(from, NULL, to, NULL, STEP, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && !by_hand &&
			(errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP)) {
			by_hand = true;
			continue;
		}
		if (n < 0)
			return system_failed(c, name, err);
		if (n == 0)
			return 0;
		if (count(c, (uint64_t)n, name, err) < 0)
			return -1;
	}
}

int copy_file(struct copy *c, int from, int folder_fd, const char *name, struct error *err)
{
	struct stat st;
	if (fstat(from, &st) < 0)
		return system_failed(c, name, err);
	cleanup_fd int to =
		openat(folder_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return system_failed(c, name, err);
	if (copy_bytes(c, from, to, name, err) < 0)
		return -1;
	mode_t mode = (st.st_mode & 0111 ? 0555 : 0444) | (c->writable ? 0200 : 0);
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, st.st_mtim};
	if (fchmod(to, mode) < 0 || futimens(to, times) < 0)
		return system_failed(c, name, err);
	c->files++;
	return 0;
}

static int copy_folder(struct copy *c, int from, int to, unsigned depth, struct error *err);

static int copy_entry(
	struct copy *c, int from, int to, const char *name, unsigned depth, struct error *err)
{
	struct stat st;
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : system_failed(c, name, err); // removed meanwhile
	if (S_ISLNK(st.st_mode)) {
		char target[PATH_MAX];
		ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		return n > 0 && symlinkat(target, to, name) == 0 ? 0 : system_failed(c, name, err);
	}
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		c->left_out++;
		return 0;
	}
	cleanup_fd int fd = openat(from, name,
		O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK |
			(S_ISDIR(st.st_mode) ? O_DIRECTORY : 0));
	if (fd < 0)
		return system_failed(c, name, err);
	if (S_ISREG(st.st_mode))
		return copy_file(c, fd, to, name, err);
	if (mkdirat(to, name, 0755) < 0)
		return system_failed(c, name, err);
	cleanup_fd int below = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (below < 0)
		return system_failed(c, name, err);
	return copy_folder(c, fd, below, depth + 1, err);
}

static int list(struct copy *c, int from, struct arena *a, struct store_names *names,
	unsigned depth, struct error *err)
{
	if (depth > DEPTH_MAX) {
		error_set(err, ERROR_LIMIT, "more than %d folders in each other", DEPTH_MAX);
		return fail(c, DATA_TOO_LARGE);
	}
	return store_names(from, ".", a, names, err) < 0 ? fail(c, DATA_FAILED) : 0;
}

static int copy_folder(struct copy *c, int from, int to, unsigned depth, struct error *err)
{
	cleanup_arena struct arena arena = {0};
	struct store_names names;
	if (fchmod(to, 0755) < 0)
		return system_failed(c, "a folder", err);
	if (list(c, from, &arena, &names, depth, err) < 0)
		return -1;
	for (size_t i = 0; i < names.count; i++)
		if (look_up(c, err) < 0 || copy_entry(c, from, to, names.items[i], depth, err) < 0)
			return -1;
	return 0;
}

int copy_tree(struct copy *c, int from, int to, struct error *err)
{
	return copy_folder(c, from, to, 0, err);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int sign_entry(struct copy *c, struct sha256 *h, int from, const char *name, unsigned depth,
	struct error *err)
{
	cleanup_arena struct arena arena = {0};
	struct store_names names;
	struct stat st;
	char line[256];
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0)
		return errno == ENOENT ? 0 : system_failed(c, name, err);
	int n = snprintf(line, sizeof(line), "%zu %o %lld %llu %lld.%ld %lld.%ld\n", strlen(name),
		st.st_mode, (long long)st.st_size, (unsigned long long)st.st_ino,
		(long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec,
		st.st_ctim.tv_nsec);
	sha256_update(h, line, (size_t)n);
	sha256_update(h, name, strlen(name));
	if (!S_ISDIR(st.st_mode))
		return look_up(c, err);
	cleanup_fd int fd =
		openat(from, *name ? name : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return system_failed(c, name, err);
	if (list(c, fd, &arena, &names, depth, err) < 0)
		return -1;
	if (names.count)
		qsort(names.items, names.count, sizeof(*names.items), by_name);
	for (size_t i = 0; i < names.count; i++)
		if (sign_entry(c, h, fd, names.items[i], depth + 1, err) < 0)
			return -1;
	sha256_update(h, "/", 1);
	return 0;
}

int copy_signature(struct copy *c, int from, const char *path, char hex[65], struct error *err)
{
	cleanup_sha256 struct sha256 *h = sha256_new();
	uint8_t digest[SHA256_SIZE];
	sha256_update(h, path, strlen(path) + 1);
	if (sign_entry(c, h, from, "", 0, err) < 0)
		return -1;
	sha256_final(h, digest);
	sha256_hex(digest, hex);
	return 0;
}

// Is the path `root` or below it? Where what is below begins.
static const char *below(const char *root, const char *path)
{
	size_t n = strlen(root);
	while (n && root[n - 1] == '/')
		n--;
	if (strncmp(path, root, n) != 0 || (path[n] && path[n] != '/'))
		return NULL;
	return path + n + strspn(path + n, "/");
}

int bind_open(const struct data_policy *policy, const char *path, int flags, int *fd,
	enum data_failure *failure, struct error *err)
{
	const char *root = policy->bind_roots.count ? NULL : "/", *rest = path + 1;
	for (size_t i = 0; i < policy->bind_roots.count && !root; i++) {
		rest = below(policy->bind_roots.items[i], path);
		root = rest ? policy->bind_roots.items[i] : NULL;
	}
	*failure = DATA_POLICY;
	if (!root)
		return error_set(err, ERROR_DENIED,
			"%.200s lies below none of the folders that this node allows "
			"(data.bind_roots "
			"in agent.yaml)",
			path);
	*failure = DATA_FAILED;
	cleanup_fd int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		return error_set_errno(err, errno, "open %s", root);
	*fd = file_open_beneath(
		root_fd, *rest ? rest : ".", flags | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS, err);
	if (*fd >= 0) {
		*failure = DATA_OK;
		return 0;
	}
	*failure = err->sys == ENOENT || err->sys == ENOTDIR ? DATA_NOT_FOUND
		   : err->sys == EACCES			     ? DATA_FORBIDDEN
		   : err->sys == ELOOP			     ? DATA_POLICY
							     : DATA_FAILED;
	if (err->sys == ELOOP)
		error_set(err, ERROR_DENIED,
			"%.200s: there is a symbolic link in it; name the path it leads to", path);
	return -1;
}
