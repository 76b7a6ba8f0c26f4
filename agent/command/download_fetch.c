// SPDX-License-Identifier: Apache-2.0
#include "agent/command/download_fetch.h"

#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int take(void *data, const char *bytes, size_t size, struct error *err)
{
	struct download_fetch *f = data;
	sha256_update(f->hash, bytes, size);
	f->have += size;
	phase_line_update(f->line, f->have, f->size);
	return write_all(f->fd, bytes, size, f->name, err);
}

bool download_is_here(int folder, const char *name, const struct json *file)
{
	const char *hex = json_get_string(file, "sha256");
	struct error ignored;
	struct stat st;
	cleanup_fd int fd = file_open_beneath(
		folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, RESOLVE_NO_SYMLINKS, &ignored);
	char is[SHA256_HEX_SIZE];
	return hex && fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	       st.st_size == json_get_integer(file, "size", 0) &&
	       file_sha256(fd, name, (uint64_t)st.st_size, is, &ignored) == 0 && streq(is, hex);
}

int download_open_parent(int folder, const char *name, struct error *err)
{
	cleanup_free char *parent = xstrdup(name);
	char *slash = strrchr(parent, '/');
	if (!slash)
		return openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*slash = '\0';
	for (char *p = parent;; p++) {
		size_t n = strcspn(p, "/");
		char kept = p[n];
		p[n] = '\0';
		// Step by step and never through a link: what an earlier download made may lead
		// away.
		cleanup_fd int above = file_open_beneath(
			folder, parent, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, err);
		if (above < 0) {
			if (err->kind != ERROR_NOT_FOUND || mkdirat(folder, parent, 0755) < 0)
				return error_context(err, "make %s", parent);
			error_clear(err);
		}
		p[n] = kept;
		p += n;
		if (!kept)
			break;
	}
	return file_open_beneath(
		folder, parent, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, err);
}

// What an earlier call has left of it.
static int take_up(struct download_fetch *f, struct error *err)
{
	off_t size = lseek(f->fd, 0, SEEK_END);
	if (size < 0)
		return error_set_errno(err, errno, "go on with %s", f->name);
	f->have = f->sha256 && (uint64_t)size <= f->size ? (uint64_t)size : 0;
	if (ftruncate(f->fd, (off_t)f->have) < 0 || lseek(f->fd, (off_t)f->have, SEEK_SET) < 0)
		return error_set_errno(err, errno, "go on with %s", f->name);
	return file_hash(f->fd, f->name, 0, f->have, f->hash, err);
}

// 1: all of it is here; 0: something else came, and is thrown away. -1.
static int fetch_once(struct download_fetch *f, bool *began, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_sha256 struct sha256 *hash = sha256_new();
	uint8_t digest[SHA256_SIZE];
	char hex[SHA256_HEX_SIZE];
	f->hash = hash;
	if (take_up(f, err) < 0)
		return -1;
	*began = f->have > 0;
	const struct service_request q = {.method = "GET",
		.path = f->path,
		.fd = -1,
		.sink = take,
		.data = f,
		.sink_offset = f->have};
	if ((!f->sha256 || f->have < f->size) && service_do(f->service, &q, &a, NULL, err) < 0)
		return error_context(err, "%s", f->name);
	sha256_final(hash, digest);
	sha256_hex(digest, hex);
	if (!f->sha256 || (f->have == f->size && streq(hex, f->sha256)))
		return 1;
	return ftruncate(f->fd, 0) < 0 ? error_set_errno(err, errno, "begin %s again", f->name) : 0;
}

static int fetch(struct download_fetch *f, struct error *err)
{
	bool began;
	int got = fetch_once(f, &began, err);
	if (got == 0 && began) // of what was there before it changed
		got = fetch_once(f, &began, err);
	return got ? got
		   : error_set(err, ERROR_INTEGRITY,
			     "%s: what came is not what the controller promised; try again",
			     f->name);
}

// Give it its place.
static int finish(const struct download_fetch *f, int parent, const char *part, struct error *err)
{
	int64_t mode = json_get_integer(f->file, "mode", 0),
		mtime = json_get_integer(f->file, "mtime_ns", 0);
	const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, timespec_of_ns(mtime)};
	if (fchmod(f->fd, (mode_t)(mode & 0777) | 0600) < 0 || futimens(f->fd, times) < 0 ||
		renameat(parent, part, parent, path_base(f->name)) < 0)
		return error_set_errno(err, errno, "make %s", f->name);
	return 0;
}

int download_fetch_file(struct download_fetch *f, int folder, struct error *err)
{
	char part[NAME_MAX];
	snprintf(part, sizeof(part), ".%.200s.part", path_base(f->name));
	cleanup_fd int parent = download_open_parent(folder, f->name, err);
	if (parent < 0)
		return -1;
	cleanup_fd int fd =
		openat(parent, part, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "make %s", f->name);
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		return error_set(err, ERROR_INVALID, "%s is in the way: remove it", part);
	f->fd = fd;
	if (f->line->terminal)
		phase_line_begin(f->line, "fetching", f->name);
	int got = fetch(f, err);
	phase_line_end(f->line);
	return got < 0 ? -1 : finish(f, parent, part, err);
}
