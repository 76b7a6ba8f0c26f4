// SPDX-License-Identifier: Apache-2.0
#include "agent/data/outputs_target.h"
#include "agent/link/counters.h"
#include "agent/link/file.h"
#include "agent/link/hashing.h"
#include "agent/link/link.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

// A file that was written in the last seconds is likely to grow: it is appended to.
enum { PAGE = 1000, SMALL = 8 * 1024 * 1024, GROWS_MS = 5000, CHANGES_MAX = 1000 };

// ---- what is here, what is there; both in the order of the bytes of their paths

struct entry {
	const char *path; // as the controller names it
	const char *name; // here, below `folder`
	enum outputs_kind kind;
	int64_t size, mtime_ns;
	unsigned mode;
	const char *link, *sha256;
	bool complete;
	int64_t finished; // bytes at its last end; it may have grown since
};
struct entries {
	struct arena *arena;
	const char *top;
	struct entry *items;
	size_t count, capacity;
};

static struct entry *add(struct entries *list)
{
	if (list->count == list->capacity) {
		list->capacity = list->capacity ? 2 * list->capacity : 64;
		list->items = xreallocarray(list->items, list->capacity, sizeof(struct entry));
	}
	struct entry *e = &list->items[list->count++];
	*e = (struct entry){0};
	return e;
}

static void entries_release(struct entries *list)
{
	free(list->items);
}

static void found(void *data, const char *path, enum outputs_kind kind,
	const struct outputs_attributes *attributes, const char *link)
{
	struct entries *list = data;
	if (kind == OUTPUTS_ABSENT)
		return;
	struct entry *e = add(list);
	e->name = arena_strdup(list->arena, path);
	e->path = service_name(list->arena, arena_printf(list->arena, "%s/%s", list->top, path));
	e->kind = kind;
	e->link = link ? service_name(list->arena, link) : NULL;
	if (attributes) {
		e->size = (int64_t)attributes->size;
		e->mtime_ns = attributes->mtime_ns;
		e->mode = attributes->mode & 0777;
	}
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

static int list_here(struct entries *list, int folder, struct error *err)
{
	static const char *const nothing[] = {NULL};
	if (outputs_list(folder, nothing, found, list, err) < 0)
		return -1;
	if (list->count)
		qsort(list->items, list->count, sizeof(struct entry), by_path);
	return 0;
}

static void take_row(struct entries *list, const struct json *file)
{
	const char *path = json_get_string(file, "path"), *kind = json_get_string(file, "kind");
	if (!path || !kind)
		return;
	struct entry *e = add(list);
	e->path = path;
	e->kind = streq(kind, "folder") ? OUTPUTS_FOLDER
		  : streq(kind, "link") ? OUTPUTS_LINK
					: OUTPUTS_FILE;
	e->size = json_get_integer(file, "size", 0);
	e->mtime_ns = json_get_integer(file, "mtime_ns", 0);
	e->mode = (unsigned)json_get_integer(file, "mode", 0);
	e->link = json_get_string(file, "target");
	e->sha256 = json_get_string(file, "sha256");
	e->finished = json_get_integer(file, "finished", 0);
	e->complete = json_get_bool(file, "complete", false);
}

static int list_there(const struct upload *u, struct entries *list, struct error *err)
{
	const char *after = "";
	do {
		const struct json *page;
		const char *url = arena_printf(list->arena,
			"/v1/runs/%s/files?limit=%d&prefix=%s%%2F&after=%s", u->run, PAGE,
			list->top, service_escape(list->arena, after, false));
		if (service_call(u->service, "GET", url, NULL, list->arena, &page, err) < 0)
			return -1;
		const struct json *files = json_get(page, "files");
		if (files && files->type == JSON_ARRAY)
			json_array_each (item, files)
				take_row(list, &item->value);
		after = json_get_string(page, "next");
	} while (after);
	return 0;
}

// ---- one file

struct sending {
	const struct upload *upload;
	int folder, fd;
	const struct entry *here, *there; // there NULL: it has none
	bool grown;			  // since what is there
};

static struct link_file_end end_of(const struct sending *s, const char *hex)
{
	return (struct link_file_end){.size = s->here->size,
		.mtime_ns = s->here->mtime_ns,
		.mode = s->here->mode,
		.sha256 = hex};
}

static int put_small(const struct sending *s, const char *hex, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const struct link_file f = {
		.service = s->upload->service, .run = s->upload->run, .path = s->here->path};
	const char *headers[] = {arena_printf(&a, "Stoker-Sha256: %s", hex), NULL};
	const struct service_request q = {.method = "PUT",
		.path = link_file_url(&f, &a,
			arena_printf(&a, "?mode=%u&mtime_ns=%lld", s->here->mode,
				(long long)s->here->mtime_ns)),
		.fd = s->fd,
		.body = s->here->size ? NULL : "",
		.body_size = (uint64_t)s->here->size,
		.headers = headers};
	if (service_do(s->upload->service, &q, &a, NULL, err) < 0)
		return -1;
	link_counters.upload_bytes += q.body_size;
	return 0;
}

// 0; 1: what is there is something else; -1.
static int send_as(const struct sending *s, bool part, struct hashing *hash, struct error *err)
{
	const struct link_file f = {.service = s->upload->service,
		.run = s->upload->run,
		.path = s->here->path,
		.part = part};
	int64_t size, partial;
	if (link_file_stat(&f, &size, &partial, err) < 0)
		return -1;
	int64_t offset = part ? partial : size;
	if (offset > s->here->size)
		offset = s->here->size; // the end will say that it is something else
	else if (link_file_append(&f, s->fd, &offset, s->here->size, err) < 0)
		return -1;
	const char *hex = hashing_wait(hash, err);
	if (!hex)
		return -1;
	const struct link_file_end end = end_of(s, hex);
	return link_file_finish(&f, &end, err);
}

// What has only grown is appended to; everything else replaces what is there in one step.
static int send_large(const struct sending *s, struct error *err)
{
	cleanup_hashing struct hashing *hash =
		hashing_start(s->fd, s->here->name, (uint64_t)s->here->size);
	int rc = s->grown ? send_as(s, false, hash, err) : 1;
	for (int tries = 0; rc > 0 && tries < 2; tries++)
		rc = send_as(s, true, hash, err);
	if (rc > 0)
		return error_set(err, ERROR_INTEGRITY, "it changes while it is sent");
	return rc;
}

static int send_whole(const struct sending *s, bool append, struct error *err)
{
	char hex[SHA256_HEX_SIZE];
	if (s->here->size > SMALL || append)
		return send_large(s, err);
	if (file_sha256(s->fd, s->here->name, (uint64_t)s->here->size, hex, err) < 0)
		return -1;
	return put_small(s, hex, err);
}

static int append_only(const struct sending *s, struct error *err)
{
	const struct link_file f = {
		.service = s->upload->service, .run = s->upload->run, .path = s->here->path};
	int64_t offset = s->there ? s->there->size : 0;
	return link_file_append(&f, s->fd, &offset, s->here->size, err);
}

// Does what is there begin what is here? Of a file that is not finished there is no hash: its end
// will tell. 1, 0, -1.
static int has_grown(const struct sending *s, struct error *err)
{
	char hex[SHA256_HEX_SIZE];
	const struct entry *there = s->there;
	if (!there)
		return 1;
	if (there->kind != OUTPUTS_FILE || there->size >= s->here->size)
		return 0;
	if (!there->complete || !there->sha256)
		return 1;
	if (file_sha256(s->fd, s->here->name, (uint64_t)there->size, hex, err) < 0)
		return -1;
	return streq(hex, there->sha256);
}

// One that goes on growing is finished now and then all the same: a further attempt gets back what
// was finished (restore.c). Of a large one so rarely that hashing costs a few times its bytes.
static bool is_due(const struct sending *s)
{
	int64_t finished = s->there ? s->there->complete ? s->there->size : s->there->finished : 0;
	return s->here->size <= SMALL || s->here->size - finished >= finished / 4;
}

static int send_open(struct sending *s, bool whole, struct error *err)
{
	int rc = has_grown(s, err);
	s->grown = rc > 0;
	if (rc < 0)
		return -1;
	bool grows = s->grown && wall_ms() - s->here->mtime_ns / 1000000 < GROWS_MS;
	return grows && !whole && !is_due(s) ? append_only(s, err)
					     : send_whole(s, grows && !whole && s->there, err);
}

// As it is now: since the list was made another file may have taken the name, of which the listed
// size would be no whole.
static int send_file(struct sending *s, bool whole, struct error *err)
{
	const struct entry *listed = s->here;
	struct entry now = *listed;
	struct stat st;
	s->fd = outputs_open_beneath(s->folder, now.name, O_RDONLY | O_NONBLOCK);
	if (s->fd < 0)
		return errno == ENOENT || errno == ELOOP ? 0 : error_set_errno(err, errno, "open");
	int rc = fstat(s->fd, &st);
	if (rc < 0)
		error_set_errno(err, errno, "look at %s", now.name);
	else if (S_ISREG(st.st_mode)) {
		now.size = st.st_size;
		now.mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
		now.mode = st.st_mode & 0777;
		s->here = &now;
		rc = send_open(s, whole, err);
		s->here = listed;
	}
	close_fdp(&s->fd);
	return rc;
}

// ---- a round

static bool is_same(const struct entry *a, const struct entry *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == OUTPUTS_LINK)
		return streq(a->link ? a->link : "", b->link ? b->link : "");
	if (a->kind == OUTPUTS_FOLDER)
		return true;
	return b->complete && a->size == b->size && a->mtime_ns == b->mtime_ns;
}

struct changes {
	struct json_writer *writer;
	size_t count;
};

static void begin_changes(struct changes *c)
{
	c->writer = json_writer_new(false);
	c->count = 0;
	json_write_open_object(c->writer);
	json_write_key(c->writer, "changes");
	json_write_open_array(c->writer);
}

static int send_changes(const struct upload *u, struct changes *c, struct error *err)
{
	cleanup_arena struct arena a = {0};
	json_write_close_array(c->writer);
	json_write_close_object(c->writer);
	const char *url = arena_printf(&a, "/v1/runs/%s/changes", u->run);
	int rc = c->count ? service_call(u->service, "POST", url, c->writer, &a, NULL, err) : 0;
	json_writer_free(c->writer);
	begin_changes(c);
	return rc;
}

static int change(const struct upload *u, struct changes *c, const char *what,
	const struct entry *e, struct error *err)
{
	json_write_open_object(c->writer);
	json_write_member(c->writer, "do", what);
	json_write_member(c->writer, "path", e->path);
	if (streq(what, "link"))
		json_write_member(c->writer, "target", e->link ? e->link : "");
	if (streq(what, "folder"))
		json_write_member_int(c->writer, "mode", e->mode);
	json_write_close_object(c->writer);
	return ++c->count < CHANGES_MAX ? 0 : send_changes(u, c, err);
}

// Trouble of one file is no reason to leave out the others; trouble with the controller ends the
// round.
static int send_one(struct sending *s, struct changes *c, bool whole, struct upload_status *status,
	struct error *err)
{
	const struct entry *e = s->here;
	status->files += e->kind == OUTPUTS_FILE;
	status->bytes += e->kind == OUTPUTS_FILE ? (uint64_t)e->size : 0;
	if (s->there && is_same(e, s->there))
		return 0;
	if (e->kind != OUTPUTS_FILE)
		return change(s->upload, c, e->kind == OUTPUTS_LINK ? "link" : "folder", e, err);
	if (send_file(s, whole, err) == 0)
		return 0;
	if (err->kind == ERROR_UNAVAILABLE || streq(service_code(s->upload->service), "stale"))
		return -1;
	if (whole) {
		status->failed = true;
		snprintf(status->message, sizeof(status->message), "%.100s: %.140s", e->path,
			err->text);
	}
	error_clear(err);
	return 0;
}

static int send_differences(const struct upload *u, int folder, const struct entries *here,
	const struct entries *there, bool whole, struct upload_status *status, struct error *err)
{
	struct changes c;
	size_t k = 0;
	int rc = 0;
	begin_changes(&c);
	for (size_t i = 0; rc == 0 && i <= here->count; i++) {
		const char *path = i < here->count ? here->items[i].path : NULL;
		for (; rc == 0 && k < there->count &&
			(!path || strcmp(there->items[k].path, path) < 0);
			k++)
			rc = change(u, &c, "remove", &there->items[k], err);
		if (!path || rc < 0)
			break;
		bool both = k < there->count && streq(there->items[k].path, path);
		struct sending s = {.upload = u,
			.folder = folder,
			.fd = -1,
			.here = &here->items[i],
			.there = both ? &there->items[k] : NULL};
		rc = send_one(&s, &c, whole, status, err);
		k += both;
	}
	if (rc == 0)
		rc = send_changes(u, &c, err);
	json_writer_free(c.writer);
	return rc;
}

static int send_top(const struct upload *u, int attempt_fd, const char *top, bool whole,
	struct upload_status *status, struct error *err)
{
	cleanup_arena struct arena a = {0};
	__attribute__((cleanup(entries_release))) struct entries here = {.arena = &a, .top = top};
	__attribute__((cleanup(entries_release))) struct entries there = {.arena = &a, .top = top};
	cleanup_fd int folder = outputs_open_beneath(attempt_fd, top, O_RDONLY | O_DIRECTORY);
	if (folder < 0)
		return errno == ENOENT ? 0 : error_set_errno(err, errno, "%s", top);
	if (list_here(&here, folder, err) < 0 || list_there(u, &there, err) < 0)
		return -1;
	return send_differences(u, folder, &here, &there, whole, status, err);
}

static int set_mark(const struct upload *u, const struct upload_status *status, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member_unsigned(w, "files", status->files);
	json_write_member_unsigned(w, "bytes", status->bytes);
	json_write_close_object(w);
	const char *url = arena_printf(&a, "/v1/runs/%s/manifest", u->run);
	return service_call(u->service, "PUT", url, w, &a, NULL, err);
}

int upload_round(const struct upload *u, int attempt_fd, bool whole, struct upload_status *status,
	struct error *err)
{
	*status = (struct upload_status){0};
	if (send_top(u, attempt_fd, "outputs", whole, status, err) < 0 ||
		send_top(u, attempt_fd, "logs", whole, status, err) < 0)
		return -1;
	return whole && !status->failed ? set_mark(u, status, err) : 0;
}
