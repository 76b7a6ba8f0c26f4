// SPDX-License-Identifier: Apache-2.0
#include "agent/command/download.h"

#include "base/file.h"
#include "base/sha256.h"
#include "base/text.h"

#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 1000 };

struct fetch {
	struct sha256 *hash;
	uint64_t size;
	int fd;
	const char *name;
};

static int take(void *data, const char *bytes, size_t size, struct error *err)
{
	struct fetch *f = data;
	sha256_update(f->hash, bytes, size);
	f->size += size;
	return write_all(f->fd, bytes, size, f->name, err);
}

static bool hash_is(struct sha256 *hash, const char *hex)
{
	uint8_t digest[SHA256_SIZE];
	char text[SHA256_HEX_SIZE];
	sha256_final(hash, digest);
	sha256_hex(digest, text);
	return streq(text, hex);
}

// Is that file here, whole?
static bool is_here(int folder, const char *name, const struct json *file)
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

static int open_parent(int folder, const char *name, struct error *err)
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

static int fetch_into(struct service *s, struct arena *a, const char *path, const struct json *file,
	struct fetch *f, struct error *err)
{
	const struct service_request q = {
		.method = "GET", .path = path, .fd = -1, .sink = take, .data = f};
	const char *hex = json_get_string(file, "sha256");
	if (service_do(s, &q, a, NULL, err) < 0)
		return error_context(err, "%s", f->name);
	if (hex &&
		(f->size != (uint64_t)json_get_integer(file, "size", 0) || !hash_is(f->hash, hex)))
		return error_set(err, ERROR_INTEGRITY,
			"%s: what came is not what the controller promised; try again", f->name);
	return 0;
}

static int fetch_file(struct service *s, const char *path, int folder, const char *name,
	const struct json *file, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const char *part = arena_printf(&a, ".%s.part", path_base(name));
	cleanup_fd int parent = open_parent(folder, name, err);
	if (parent < 0)
		return -1;
	unlinkat(parent, part, 0);
	cleanup_fd int fd =
		openat(parent, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	cleanup_sha256 struct sha256 *hash = sha256_new();
	if (fd < 0)
		return error_set_errno(err, errno, "make %s", name);
	struct fetch f = {.hash = hash, .fd = fd, .name = name};
	int rc = fetch_into(s, &a, path, file, &f, err);
	int64_t mode = json_get_integer(file, "mode", 0),
		mtime = json_get_integer(file, "mtime_ns", 0);
	const struct timespec times[2] = {{.tv_nsec = UTIME_NOW},
		{.tv_sec = mtime / 1000000000, .tv_nsec = mtime % 1000000000}};
	if (rc == 0 && (fchmod(fd, (mode_t)(mode & 0777) | 0600) < 0 || futimens(fd, times) < 0 ||
			       renameat(parent, part, parent, path_base(name)) < 0))
		rc = error_set_errno(err, errno, "make %s", name);
	if (rc < 0)
		unlinkat(parent, part, 0);
	return rc;
}

// A link that leads out of the folder could make a later file land anywhere.
static int make_link(int folder, const char *name, const char *target, struct error *err)
{
	int depth = 0;
	for (const char *p = name; *p; p++)
		depth += *p == '/';
	bool safe = *target && *target != '/';
	for (const char *p = target; safe && *p; p += strcspn(p, "/"), p += *p == '/') {
		size_t n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.')
			depth--;
		else if (n && !(n == 1 && *p == '.'))
			depth++;
		safe = depth >= 0;
	}
	if (!safe) {
		fprintf(stderr, "%s: a link that leads out of the folder is left out\n", name);
		return 0;
	}
	cleanup_fd int parent = open_parent(folder, name, err);
	if (parent < 0)
		return -1;
	unlinkat(parent, path_base(name), 0);
	return symlinkat(target, parent, path_base(name)) < 0
		       ? error_set_errno(err, errno, "make the link %s", name)
		       : 0;
}

static bool is_safe(const char *name)
{
	for (const char *p = name;; p++) {
		size_t n = strcspn(p, "/");
		if (n == 0 || n > NAME_MAX || (n == 1 && *p == '.') ||
			(n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		p += n;
		if (!*p)
			return true;
	}
}

// 1: a file that is here now; 0: something else.
static int one(struct service *s, const struct download *d, int folder, const struct json *file,
	struct error *err)
{
	cleanup_arena struct arena a = {0};
	const char *path = remote_text(file, "path"), *kind = remote_text(file, "kind");
	if (d->prefix && !streq(path, d->prefix) &&
		!starts_with(path, arena_printf(&a, "%s/", d->prefix)))
		return 0;
	const char *shown = path;
	if (d->strip && starts_with(path, d->strip) && path[strlen(d->strip)] == '/')
		shown = path + strlen(d->strip) + 1;
	const char *name = service_name_bytes(&a, shown);
	if (!name || !is_safe(name))
		return error_set(err, ERROR_INVALID, "%s is no name for a file here", path);
	if (streq(kind, "link"))
		return make_link(folder, name, remote_text(file, "target"), err);
	if (streq(kind, "folder"))
		return directory_make(folder, name, 0755, err);
	if (is_here(folder, name, file))
		return 1;
	const char *from = arena_printf(&a, "%s/%s", d->list, service_escape(&a, path, true));
	if (fetch_file(s, from, folder, name, file, err) < 0)
		return -1;
	if (!d->quiet)
		fprintf(stderr, "%s\n", name);
	return 1;
}

static int64_t page(
	struct service *s, const struct download *d, int folder, char **after, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const struct json *answer;
	int64_t count = 0;
	const char *path = arena_printf(&a, "%s?limit=%d&prefix=%s&after=%s", d->list, PAGE,
		d->prefix ? service_escape(&a, d->prefix, false) : "",
		*after ? service_escape(&a, *after, false) : "");
	if (service_call(s, "GET", path, NULL, &a, &answer, err) < 0)
		return -1;
	const struct json *list = json_get(answer, "files");
	if (list && list->type == JSON_ARRAY)
		json_array_each (item, list) {
			int rc = one(s, d, folder, &item->value, err);
			if (rc < 0)
				return -1;
			count += rc;
		}
	free(*after);
	const char *next = json_get_string(answer, "next");
	*after = next ? xstrdup(next) : NULL;
	return count;
}

int64_t download_files(struct service *s, const struct download *d, struct error *err)
{
	cleanup_free char *after = NULL;
	cleanup_fd int folder = directory_ensure(AT_FDCWD, d->target, 0755, err);
	int64_t count = 0;
	if (folder < 0)
		return -1;
	do {
		int64_t n = page(s, d, folder, &after, err);
		if (n < 0)
			return -1;
		count += n;
	} while (after);
	return count;
}
