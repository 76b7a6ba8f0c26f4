// SPDX-License-Identifier: Apache-2.0
//
// The outputs that the controller has of a run, into restore/outputs/ of the attempt's folder, for
// `stoker run --restore`. A file is brought back as it was when it was last finished (that is, with
// the bytes that were checked): what was appended since may be half of a write, and one that was
// never finished may be half of a file.
#include "agent/data/outputs_target.h"
#include "agent/link/attempt.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 1000 };

static const char top[] = "outputs/";
static const char part_name[] = "part"; // beside outputs/: the file that is being fetched

struct restoring {
	struct attempt *attempt;
	int folder;  // restore/
	int outputs; // restore/outputs/
	struct outputs_parent parent;
};

static int write_piece(void *data, const char *bytes, size_t size, struct error *err)
{
	return write_all(*(const int *)data, bytes, size, "restore/part", err);
}

// Bytes `from` to `size` of a file, to the end of `fd`.
static int fetch(
	struct attempt *a, const char *path, int fd, int64_t from, int64_t size, struct error *err)
{
	cleanup_arena struct arena arena = {0};
	const char *headers[] = {arena_printf(&arena, "Range: bytes=%lld-%lld", (long long)from,
					 (long long)size - 1),
		NULL};
	const struct service_request q = {.method = "GET",
		.path = arena_printf(
			&arena, "/v1/runs/%s/files/%s", a->run, service_escape(&arena, path, true)),
		.fd = -1,
		.headers = headers,
		.sink = write_piece,
		.data = &fd};
	int rc = service_do(a->service, &q, &arena, NULL, err);
	a->answered = service_status(a->service) != 0;
	return rc;
}

static int check(int fd, const char *path, int64_t size, const char *sha256, struct error *err)
{
	struct stat st;
	char hex[SHA256_HEX_SIZE];
	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "restore/part");
	if (st.st_size != size)
		return error_set(err, ERROR_INTEGRITY, "%lld bytes of %lld came",
			(long long)st.st_size, (long long)size);
	if (!sha256)
		return 0;
	if (file_sha256(fd, path, (uint64_t)size, hex, err) < 0)
		return -1;
	return streq(hex, sha256)
		       ? 0
		       : error_set(err, ERROR_INTEGRITY, "what came has the SHA-256 %s", hex);
}

// A part that an attempt before this one has left is of the file that was next then, and is now.
static int fetch_part(const struct restoring *r, const char *path, int64_t size, const char *sha256,
	int *part, struct error *err)
{
	struct stat st;
	cleanup_fd int fd = openat(
		r->folder, part_name, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "make restore/part");
	if (st.st_size > size && ftruncate(fd, 0) < 0)
		return error_set_errno(err, errno, "restore/part");
	int64_t from = st.st_size > size ? 0 : st.st_size;
	if (from < size && fetch(r->attempt, path, fd, from, size, err) < 0)
		return -1;
	if (check(fd, path, size, sha256, err) < 0) {
		unlinkat(r->folder, part_name, 0);
		return -1;
	}
	*part = steal_fd(&fd);
	return 0;
}

// From a try before this one.
static bool is_here(int parent, const char *name, int64_t size, const char *sha256)
{
	struct stat st;
	struct error ignored;
	cleanup_fd int fd = outputs_open_beneath(parent, name, O_RDONLY | O_NONBLOCK);
	return sha256 && fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	       check(fd, name, size, sha256, &ignored) == 0;
}

static int restore_file(const struct restoring *r, const char *path, int parent, const char *name,
	const struct json *file, struct error *err)
{
	bool whole = json_get_bool(file, "complete", false);
	int64_t size = json_get_integer(file, whole ? "size" : "finished", 0);
	int64_t mtime = json_get_integer(file, "mtime_ns", 0);
	const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, timespec_of_ns(mtime)};
	const char *sha256 = whole ? json_get_string(file, "sha256") : NULL;
	if ((!whole && size == 0) || is_here(parent, name, size, sha256))
		return 0;
	cleanup_fd int part = -1;
	if (fetch_part(r, path, size, sha256, &part, err) < 0)
		return error_context(err, "%s", path);
	if (fchmod(part, (mode_t)json_get_integer(file, "mode", 0) & 0777) < 0 ||
		futimens(part, times) < 0 || renameat(r->folder, part_name, parent, name) < 0)
		return error_set_errno(err, errno, "make %s", path);
	return 0;
}

// The folder of `bytes`, never along a link and not out of outputs/: "" and ".." are no names to
// the calls below. Files may have come to the controller before the folders that they lie in. -1:
// there cannot be one.
static int open_parent(struct restoring *r, const char *bytes, const char **name)
{
	int fd = outputs_parent_open(&r->parent, r->outputs, bytes, name);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	cleanup_fd int at = outputs_open_beneath(r->outputs, ".", O_RDONLY | O_DIRECTORY);
	for (const char *p = bytes, *slash; at >= 0 && (slash = strchr(p, '/')); p = slash + 1) {
		cleanup_free char *folder = xstrndup(p, (size_t)(slash - p));
		int below = outputs_make_beneath(at, folder);
		close(at);
		at = below;
	}
	return at < 0 ? -1 : outputs_parent_open(&r->parent, r->outputs, bytes, name);
}

static int restore_one(struct restoring *r, const struct json *file, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const char *path = json_get_string(file, "path"), *kind = json_get_string(file, "kind");
	const char *target = json_get_string(file, "target"), *name;
	if (!path || !kind || !starts_with(path, top))
		return error_set(err, ERROR_INVALID, "the list of the run's files cannot be read");
	const char *bytes = service_name_bytes(&a, path + strlen(top));
	int parent = bytes ? open_parent(r, bytes, &name) : -1;
	if (parent < 0 || streq(name, "..") || streq(name, ".") || !*name)
		return error_set(err, ERROR_INVALID, "%s is no name for a file here", path);
	if (streq(kind, "file"))
		return restore_file(r, path, parent, name, file, err);
	mode_t mode = (mode_t)json_get_integer(file, "mode", 0755) & 0777;
	if (streq(kind, "folder") && (directory_make(parent, name, mode, err) < 0 ||
					     fchmodat(parent, name, mode | 0700, 0) < 0))
		return error_set_errno(err, errno, "make %s", path);
	const char *text = target ? service_name_bytes(&a, target) : NULL;
	if (streq(kind, "link") &&
		(!text || (symlinkat(text, parent, name) < 0 && errno != EEXIST)))
		return error_set(err, ERROR_INVALID, "the link %s cannot be made", path);
	return 0;
}

static int restore_all(struct restoring *r, struct error *err)
{
	struct attempt *t = r->attempt;
	cleanup_free char *after = xstrdup("");
	while (after) {
		cleanup_arena struct arena a = {0};
		const struct json *page;
		const char *url =
			arena_printf(&a, "/v1/runs/%s/files?limit=%d&prefix=outputs%%2F&after=%s",
				t->run, PAGE, service_escape(&a, after, false));
		int rc = service_call(t->service, "GET", url, NULL, &a, &page, err);
		t->answered = service_status(t->service) != 0;
		if (rc < 0)
			return -1;
		const struct json *files = json_get(page, "files");
		if (files && files->type == JSON_ARRAY)
			json_array_each (item, files)
				if (restore_one(r, &item->value, err) < 0)
					return -1;
		const char *next = json_get_string(page, "next");
		free(after);
		after = next ? xstrdup(next) : NULL;
	}
	return 0;
}

int attempt_restore(struct attempt *a, struct error *err)
{
	if (!json_get_bool(a->start, "restore", false))
		return 0;
	a->answered = false;
	cleanup_fd int folder = directory_ensure(a->folder, "restore", 0700, err);
	cleanup_fd int outputs = folder < 0 ? -1 : directory_ensure(folder, "outputs", 0755, err);
	if (outputs < 0)
		return -1;
	struct restoring r = {
		.attempt = a, .folder = folder, .outputs = outputs, .parent = {.fd = -1}};
	int rc = restore_all(&r, err);
	outputs_parent_close(&r.parent);
	if (rc < 0)
		return error_context(err, "bring the outputs back");
	// The job's file comes after this one, and says that all is here.
	return syncfs(folder) < 0 ? error_set_errno(err, errno, "write restore to the disk") : 0;
}
