// SPDX-License-Identifier: Apache-2.0
//
// The folders of CDI files, and finding devices in what was read.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/cdi_internal.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NEAR_NAMES = 4 };

const char *const cdi_default_folders[2] = {"/etc/cdi", "/var/run/cdi"};

struct cdi {
	struct arena arena;
	struct cdi_file *files;
	size_t file_count;
	struct cdi_device *devices;
	size_t count;
};

// What is being read: documents in the order of folders and names.
struct reader {
	struct cdi *cdi;
	struct cdi_document *documents;
	size_t count, devices;
	struct buffer *warnings;
};

static void reader_release(struct reader *r)
{
	free(r->documents);
}

static void close_folder(DIR **d)
{
	if (*d)
		closedir(*d);
}

static void warn(struct reader *r, const struct error *err)
{
	buffer_printf(r->warnings, "%s; the devices of this file are left out\n", err->text);
}

static int add_document(
	struct reader *r, const struct cdi_document *document, size_t folder, struct error *err)
{
	if (r->devices + document->count > CDI_DEVICES_MAX)
		return error_set(err, ERROR_LIMIT,
			"%s: with it there are more than %d CDI devices; remove files",
			document->file.path, CDI_DEVICES_MAX);
	r->documents = xreallocarray(r->documents, r->count + 1, sizeof(*r->documents));
	r->documents[r->count] = *document;
	r->documents[r->count++].file.folder = folder;
	r->devices += document->count;
	return 0;
}

// Hooks run with our rights: whoever may write the file has them, too.
static int check_owner(int fd, const char *path, struct stat *st, struct error *err)
{
	if (fstat(fd, st) < 0)
		return error_set_errno(err, errno, "%s", path);
	if ((st->st_uid != 0 && st->st_uid != geteuid()) || (st->st_mode & S_IWOTH))
		return error_set(err, ERROR_DENIED,
			"%s: others may write it; chown root and chmod o-w", path);
	return 0;
}

static int read_document(struct reader *r, int dirfd, const char *name, const char *path,
	struct cdi_document *document, struct error *err)
{
	// Not to wait for whoever writes into a FIFO.
	cleanup_fd int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	cleanup_buffer struct buffer b = {0};
	struct stat st;
	if (fd < 0)
		return error_set_errno(err, errno, "open %s", path);
	if (check_owner(fd, path, &st, err) < 0)
		return -1;
	if (!S_ISREG(st.st_mode))
		return error_set(err, ERROR_INVALID, "%s: not a regular file; remove it", path);
	if (file_read_fd(fd, path, CDI_FILE_BYTES_MAX, &b, err) < 0)
		return -1;
	return cdi_decode(&r->cdi->arena, b.data ? b.data : "", b.size, path, document, err);
}

static int wanted(const struct dirent *e)
{
	return e->d_name[0] != '.' &&
	       (ends_with(e->d_name, ".json") || ends_with(e->d_name, ".yaml") ||
		       ends_with(e->d_name, ".yml"));
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

// Sorted, so that what is said does not depend on the folder's order. NULL where it cannot be read.
static const char **list_folder(struct reader *r, const char *path, int *fd, size_t *count)
{
	struct error err = {0};
	struct stat st;
	const char **names = NULL;
	*fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0 && errno == ENOENT)
		return NULL;
	if (*fd < 0)
		error_set_errno(&err, errno, "open %s", path);
	else
		check_owner(*fd, path, &st, &err);
	int copy = err.kind ? -1 : fcntl(*fd, F_DUPFD_CLOEXEC, 3);
	__attribute__((cleanup(close_folder))) DIR *d = copy < 0 ? NULL : fdopendir(copy);
	if (!d) {
		if (copy >= 0)
			close(copy);
		buffer_printf(r->warnings, "%s; its devices are left out\n", err.text);
		return NULL;
	}
	names = arena_array(&r->cdi->arena, const char *, CDI_FILES_MAX);
	*count = 0;
	for (struct dirent *e; (e = readdir(d));) {
		if (!wanted(e))
			continue;
		if (*count == CDI_FILES_MAX) {
			buffer_printf(r->warnings,
				"%s: more than %d files, the others are left out; remove some\n",
				path, CDI_FILES_MAX);
			break;
		}
		names[(*count)++] = arena_strdup(&r->cdi->arena, e->d_name);
	}
	qsort(names, *count, sizeof(*names), compare_names);
	return names;
}

static int read_folder(struct reader *r, const char *path, size_t folder, struct error *err)
{
	cleanup_fd int fd = -1;
	size_t count;
	const char **names = list_folder(r, path, &fd, &count);
	for (size_t i = 0; names && i < count; i++) {
		struct cdi_document document;
		struct error problem = {0};
		const char *full = arena_printf(&r->cdi->arena, "%s/%s", path, names[i]);
		if (read_document(r, fd, names[i], full, &document, &problem) < 0)
			warn(r, &problem);
		else if (add_document(r, &document, folder, err) < 0)
			return -1;
	}
	return 0;
}

static int compare_devices(const void *a, const void *b)
{
	const struct cdi_device *d = a, *e = b;
	int order = cdi_name_compare(d->name, e->name);
	if (order)
		return order;
	if (d->file->folder != e->file->folder)
		return d->file->folder > e->file->folder ? -1 : 1;
	return d->file < e->file ? -1 : 1;
}

// One device of each name: the last folder's; where that has two, it is in conflict.
static void settle(struct cdi *c)
{
	size_t kept = 0;
	if (c->count)
		qsort(c->devices, c->count, sizeof(*c->devices), compare_devices);
	for (size_t i = 0; i < c->count; i++) {
		struct cdi_device *d = &c->devices[i], *first = kept ? &c->devices[kept - 1] : NULL;
		if (!first || !streq(first->name, d->name))
			c->devices[kept++] = *d;
		else if (first->file->folder == d->file->folder)
			first->conflict = d->file->path;
	}
	c->count = kept;
}

static void finish(struct reader *r)
{
	struct cdi *c = r->cdi;
	c->files = arena_array(&c->arena, struct cdi_file, r->count);
	c->devices = arena_array(&c->arena, struct cdi_device, r->devices);
	for (size_t i = 0; i < r->count; i++) {
		struct cdi_file *file = &c->files[c->file_count++];
		*file = r->documents[i].file;
		for (size_t k = 0; k < r->documents[i].count; k++) {
			c->devices[c->count] = r->documents[i].devices[k];
			c->devices[c->count++].file = file;
		}
	}
	settle(c);
	for (size_t i = 0; i < c->count; i++)
		if (c->devices[i].conflict)
			buffer_printf(r->warnings,
				"%s: defined in both %s and %s; remove it from one of them\n",
				c->devices[i].name, c->devices[i].file->path,
				c->devices[i].conflict);
}

struct cdi *cdi_load(
	const char *const *folders, size_t count, struct buffer *warnings, struct error *err)
{
	cleanup_cdi struct cdi *c = xcalloc(1, sizeof(*c));
	__attribute__((cleanup(reader_release))) struct reader r = {.cdi = c, .warnings = warnings};
	for (size_t i = 0; i < count; i++)
		if (read_folder(&r, folders[i], i, err) < 0)
			return NULL;
	finish(&r);
	return steal(c);
}

struct cdi *cdi_parse(const char *data, size_t size, const char *name, struct error *err)
{
	cleanup_cdi struct cdi *c = xcalloc(1, sizeof(*c));
	cleanup_buffer struct buffer warnings = {0};
	__attribute__((cleanup(reader_release))) struct reader r = {
		.cdi = c, .warnings = &warnings};
	struct cdi_document document;
	if (cdi_decode(&c->arena, data, size, name, &document, err) < 0 ||
		add_document(&r, &document, 0, err) < 0)
		return NULL;
	finish(&r);
	return steal(c);
}

void cdi_free(struct cdi *c)
{
	if (!c)
		return;
	arena_release(&c->arena);
	free(c);
}

const struct cdi_device *cdi_devices(const struct cdi *c, size_t *count)
{
	*count = c->count;
	return c->devices;
}

const struct cdi_file *cdi_files(const struct cdi *c, size_t *count)
{
	*count = c->file_count;
	return c->files;
}

static size_t common_prefix(const char *a, const char *b)
{
	size_t n = 0;
	while (a[n] && a[n] == b[n])
		n++;
	return n;
}

// Those that begin alike, the longest way first.
static int fail_unknown(const struct cdi *c, const char *name, struct error *err)
{
	cleanup_buffer struct buffer near = {0};
	const struct cdi_device *shown[NEAR_NAMES];
	size_t count = 0;
	if (!c->count)
		return error_set(err, ERROR_NOT_FOUND,
			"%s: there is no such device; no CDI file describes any", name);
	while (count < NEAR_NAMES && count < c->count) {
		const struct cdi_device *best = NULL;
		for (size_t i = 0; i < c->count; i++) {
			const struct cdi_device *d = &c->devices[i];
			bool taken = false;
			for (size_t k = 0; k < count; k++)
				taken = taken || shown[k] == d;
			if (!taken && (!best || common_prefix(name, d->name) >
							common_prefix(name, best->name)))
				best = d;
		}
		buffer_printf(&near, "%s%s", count ? ", " : "", best->name);
		shown[count++] = best;
	}
	if (count < c->count)
		buffer_printf(&near, " and %zu more", c->count - count);
	return error_set(err, ERROR_NOT_FOUND, "%s: there is no such device; there %s %s", name,
		c->count == 1 ? "is" : "are", near.data);
}

int cdi_find(
	const struct cdi *c, const char *name, const struct cdi_device **device, struct error *err)
{
	if (cdi_check_name(name, err) < 0)
		return -1;
	size_t low = 0, high = c->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct cdi_device *d = &c->devices[middle];
		int order = cdi_name_compare(name, d->name);
		if (order == 0 && d->conflict)
			return error_set(err, ERROR_INVALID,
				"%s: defined in both %s and %s; remove it from one of them", name,
				d->file->path, d->conflict);
		if (order == 0) {
			*device = d;
			return 0;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return fail_unknown(c, name, err);
}
