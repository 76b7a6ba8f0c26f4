// SPDX-License-Identifier: Apache-2.0
// What conda, mamba and micromamba write into a prefix: a record per package, conda-meta/*.json.
// Packages' scripts had their way with the folder, so it is opened beneath the prefix, without
// links, and every size is bounded.
#include "agent/environment/canonical.h"
#include "agent/environment/lock_internal.h"
#include "agent/environment/request.h"
#include "base/file.h"
#include "base/text.h"

#include <ctype.h>
#include <dirent.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD_BYTES_MAX = 32 * 1024 * 1024, METADATA_BYTES = 64 * 1024, ENTRIES_MAX = 20000 };
#define RECORDS_BYTES_MAX (512ULL * 1024 * 1024)

// Lists of files: some packages have tens of thousands.
static const struct json_limits record_limits = {
	.bytes = RECORD_BYTES_MAX, .depth = 32, .nodes = 1000000, .unsigned_integers = true};

// A regular file below a folder, whatever stands in its place.
static int open_regular(int dirfd, const char *path, uint64_t resolve, struct error *err)
{
	struct stat st;
	cleanup_fd int fd =
		file_open_beneath(dirfd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, resolve, err);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return error_set(err, ERROR_INVALID, "%s is no regular file", path);
	return steal_fd(&fd);
}

static int read_record(int folder, const char *name, uint64_t *total, lock_record_fn *fn,
	void *data, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer text = {0};
	cleanup_fd int fd = open_regular(folder, name, RESOLVE_NO_SYMLINKS, err);
	if (fd < 0 || file_read_fd(fd, name, RECORD_BYTES_MAX, &text, err) < 0)
		return -1;
	*total += text.size;
	if (*total > RECORDS_BYTES_MAX)
		return error_set(
			err, ERROR_LIMIT, "%s: all records together are over 512 MiB", name);
	const struct json *record = json_parse(&a, text.data, text.size, name, &record_limits, err);
	return record ? fn(data, record, err) : -1;
}

static int each_name(int folder, DIR *d, lock_record_fn *fn, void *data, struct error *err)
{
	size_t entries = 0;
	uint64_t total = 0;
	for (struct dirent *e; (errno = 0, e = readdir(d));) {
		if (++entries > ENTRIES_MAX)
			return error_set(err, ERROR_LIMIT, "more than %d entries", ENTRIES_MAX);
		if (e->d_name[0] == '.' || !ends_with(e->d_name, ".json"))
			continue;
		if (read_record(folder, e->d_name, &total, fn, data, err) < 0)
			return error_context(err, "%.80s", e->d_name);
	}
	return errno ? error_set_errno(err, errno, "read the folder") : 0;
}

// Every record of the prefix. One without conda-meta has none: then nothing is called.
int lock_each_conda_record(int prefix_fd, lock_record_fn *fn, void *data, struct error *err)
{
	int fd = file_open_beneath(
		prefix_fd, "conda-meta", O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, err);
	if (fd < 0 && err->kind == ERROR_NOT_FOUND) {
		error_clear(err);
		return 0;
	}
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		close_fdp(&fd);
		return error_context(err, "conda-meta");
	}
	int rc = each_name(dirfd(d), d, fn, data, err);
	closedir(d);
	return rc < 0 ? error_context(err, "conda-meta") : 0;
}

// ---- the lock

struct collection {
	struct arena *arena;
	struct lock_package *items;
	size_t count, capacity;
	lock_original_fn *original;
	void *data;
};

static const char *copy(struct arena *a, const struct json *record, const char *key)
{
	const char *s = json_get_string(record, key);
	return s && *s ? arena_strdup(a, s) : NULL;
}

static int collect(void *data, const struct json *record, struct error *err)
{
	struct collection *c = data;
	const struct json *size = json_get(record, "size");
	const char *build = copy(c->arena, record, "build"), *member;
	struct lock_package p = {
		.name = copy(c->arena, record, "name"),
		.version = copy(c->arena, record, "version"),
		// Conda's own word, of its oldest and of mamba's records.
		.build = build ? build : copy(c->arena, record, "build_string"),
		.url = lock_address(c->arena, json_get_string(record, "url"), c->original, c->data),
		.sha256 = copy(c->arena, record, "sha256"),
		.md5 = copy(c->arena, record, "md5"),
		.size = size && size->type == JSON_INTEGER && size->integer > 0
				? (uint64_t)size->integer
				: 0,
	};
	const char *why = lock_package_check(LOCK_CONDA, &p, &member);
	if (why)
		return error_set(err, ERROR_INVALID, "%s: %s", member, why);
	if (c->count == LOCK_PACKAGES_MAX)
		return error_set(err, ERROR_LIMIT, "more than %d packages", LOCK_PACKAGES_MAX);
	if (c->count == c->capacity) {
		c->capacity = c->capacity ? c->capacity * 2 : 64;
		c->items = xreallocarray(c->items, c->capacity, sizeof(*c->items));
	}
	c->items[c->count++] = p;
	return 0;
}

int environment_lock_read_conda(struct environment_lock *lock, struct arena *a, int prefix_fd,
	lock_original_fn *original, void *data, struct error *err)
{
	struct collection c = {.arena = a, .original = original, .data = data};
	int rc = lock_each_conda_record(prefix_fd, collect, &c, err);
	if (rc == 0 && lock_append(lock, LOCK_CONDA, a, c.items, c.count, err) < 0)
		rc = error_context(err, "conda-meta");
	free(c.items);
	return rc;
}

// ---- constraints

struct constraints {
	int prefix_fd;
	struct arena arena;
	struct json_strings lines; // "name==version"
	size_t capacity;
};

static void add_constraint(struct constraints *c, const char *name, size_t name_size,
	const char *version, size_t version_size)
{
	struct error ignored;
	const char *n = environment_pip_name(&c->arena, arena_strndup(&c->arena, name, name_size));
	const char *line = arena_printf(&c->arena, "%s==%.*s", n, (int)version_size, version);
	line = environment_pip_requirement(&c->arena, line, &ignored);
	// Not a version that pip knows: then it cannot be held to it.
	if (!line || !strstr(line, "==") || strpbrk(line, " ;@[,*"))
		return;
	if (c->lines.count == c->capacity) {
		c->capacity = c->capacity ? c->capacity * 2 : 64;
		const char **items = arena_array(&c->arena, const char *, c->capacity);
		for (size_t i = 0; i < c->lines.count; i++)
			items[i] = c->lines.items[i];
		c->lines.items = items;
	}
	c->lines.items[c->lines.count++] = line;
}

// The value of "Name: value" among the lines before the first empty one. NULL: there is none.
static const char *header(const char *text, const char *name, size_t *size)
{
	for (const char *p = text; *p && *p != '\n' && *p != '\r';) {
		size_t line = strcspn(p, "\r\n"), n = strlen(name);
		if (starts_with(p, name)) {
			p += n + strspn(p + n, " \t");
			*size = strcspn(p, " \t\r\n");
			return *size ? p : NULL;
		}
		p += line;
		p += strspn(p, "\r");
		p += *p == '\n';
	}
	return NULL;
}

static bool read_metadata(struct constraints *c, const char *path)
{
	struct error ignored;
	size_t name_size, version_size;
	cleanup_fd int fd = open_regular(c->prefix_fd, path, 0, &ignored);
	if (fd < 0)
		return false;
	cleanup_free char *text = xmalloc(METADATA_BYTES + 1);
	ssize_t n = pread(fd, text, METADATA_BYTES, 0);
	if (n <= 0)
		return false;
	text[n] = '\0';
	const char *name = header(text, "Name:", &name_size);
	const char *version = header(text, "Version:", &version_size);
	if (!name || !version)
		return false;
	add_constraint(c, name, name_size, version, version_size);
	return true;
}

// ".../name-1.0.dist-info/METADATA", ".../name-1.0-py3.11.egg-info/PKG-INFO" and
// ".../name-1.0.egg-info".
static bool is_metadata(const char *path)
{
	return strstr(path, "site-packages/") &&
	       (ends_with(path, ".dist-info/METADATA") || ends_with(path, ".egg-info/PKG-INFO") ||
		       ends_with(path, ".egg-info"));
}

// What the folder's name says.
static void read_folder_name(struct constraints *c, const char *path)
{
	const char *base = strstr(path, "site-packages/");
	for (const char *next; (next = strstr(base + 1, "site-packages/")) != NULL;)
		base = next;
	base += strlen("site-packages/");
	const char *dash = strchr(base, '-');
	if (!dash)
		return;
	size_t n = strcspn(dash + 1, "-/");
	for (size_t i = 0; i < n; i++)
		if (starts_with(dash + 1 + i, ".dist-info") ||
			starts_with(dash + 1 + i, ".egg-info"))
			n = i;
	add_constraint(c, base, (size_t)(dash - base), dash + 1, n);
}

static int constrain(void *data, const struct json *record, struct error *err)
{
	struct constraints *c = data;
	const struct json *files = json_get(record, "files");
	(void)err;
	if (!files || files->type != JSON_ARRAY)
		return 0;
	json_array_each (file, files) {
		if (file->value.type != JSON_STRING || !is_metadata(file->value.string))
			continue;
		if (c->lines.count >= LOCK_PACKAGES_MAX)
			return error_set(err, ERROR_LIMIT, "more than %d Python packages",
				LOCK_PACKAGES_MAX);
		if (!read_metadata(c, file->value.string))
			read_folder_name(c, file->value.string);
	}
	return 0;
}

int environment_constraints(int prefix_fd, struct buffer *out, struct error *err)
{
	struct constraints c = {.prefix_fd = prefix_fd};
	int rc = lock_each_conda_record(prefix_fd, constrain, &c, err);
	canonical_sort(&c.lines);
	for (size_t i = 0; rc == 0 && i < c.lines.count; i++) {
		const char *line = c.lines.items[i];
		size_t n = strcspn(line, "=") + 2;
		// Two versions of one package would be a contradiction to pip.
		if (i && strncmp(line, c.lines.items[i - 1], n) == 0)
			continue;
		buffer_printf(out, "%s\n", line);
	}
	arena_release(&c.arena);
	return rc;
}
