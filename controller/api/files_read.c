// SPDX-License-Identifier: Apache-2.0
//
// Bytes on their way out: one file, a log that is followed, the list.
#include "controller/api/files.h"

#include "base/text.h"

#include <stdio.h>

enum { LIST_DEFAULT = 1000, FOLLOW_WAIT_MS = 1000 };

// ---- one file

struct finding {
	struct request *request;
	const char *run, *path;
	struct file_row file;
};

static int find(struct database_tx *tx, void *data, struct error *err)
{
	struct finding *f = data;
	return file_get(tx, &f->request->arena, f->run, f->path, &f->file, err);
}

// "bytes=A-B", "bytes=A-", "bytes=-N" (RFC 9110); other forms are passed over, as allowed there. 1:
// a range; 0: none; -1: it lies outside.
static int parse_range(const char *text, uint64_t size, uint64_t *first, uint64_t *count)
{
	uint64_t a = 0, b = size ? size - 1 : 0;
	const char *dash = text && starts_with(text, "bytes=") ? strchr(text, '-') : NULL;
	if (!dash || strchr(text, ','))
		return 0;
	const char *from = text + 6;
	if (dash == from) {
		if (!parse_u64(dash + 1, &b) || b == 0)
			return 0;
		a = b < size ? size - b : 0;
		b = size ? size - 1 : 0;
	} else if (!parse_u64_n(from, (size_t)(dash - from), &a) ||
		   (dash[1] && !parse_u64(dash + 1, &b)) || b < a) {
		return 0;
	}
	if (a >= size)
		return -1;
	*first = a;
	*count = (b < size ? b : size - 1) - a + 1;
	return 1;
}

struct sending {
	struct blobs *blobs;
	char blob[BLOB_ID_SIZE];
	uint64_t at, end;
};

static int64_t send_next(void *data, char *buffer, size_t size)
{
	struct sending *s = data;
	struct error err;
	uint64_t left = s->end - s->at;
	if (!left)
		return -1;
	int64_t got = blob_read(
		s->blobs, s->blob, s->at, buffer, left < size ? (size_t)left : size, &err);
	if (got <= 0)
		return -2; // fewer bytes than were promised
	s->at += (uint64_t)got;
	return got;
}

static int send_blob(struct request *r, int status, const char *blob, uint64_t first,
	uint64_t count, struct error *err)
{
	static const char type[] = "application/octet-stream";
	int fd = blob && count ? blob_open(r->controller->blobs, blob) : -1;
	if (fd >= 0)
		return reply_file(r, status, fd, first, count, type, err);
	struct sending *s = xcalloc(1, sizeof(*s));
	*s = (struct sending){.blobs = r->controller->blobs, .at = first, .end = first + count};
	snprintf(s->blob, sizeof(s->blob), "%s", blob ? blob : "");
	const struct reply_stream stream = {.status = status,
		.media_type = type,
		.size = count,
		.next = send_next,
		.done = free,
		.data = s};
	return reply_stream(r, &stream, err);
}

int files_reply_blob(struct request *r, const char *blob, uint64_t size, struct error *err)
{
	return send_blob(r, 200, blob, 0, size, err);
}

int files_reply_bytes(
	struct request *r, const char *run, const char *path, uint64_t offset, struct error *err)
{
	struct finding f = {.request = r, .run = run, .path = path};
	char text[96];
	if (database_read(r->controller->db, find, &f, err) < 0)
		return -1;
	if (!f.file.kind || !streq(f.file.kind, "file"))
		return error_set(err, ERROR_NOT_FOUND, "the run has no file %s", path);
	uint64_t size = f.file.size, first = 0, count;
	if (!f.file.complete) {
		size = 0;
		if (f.file.blob && blob_size(r->controller->blobs, f.file.blob, &size, err) < 0)
			return -1;
	}
	first = offset < size ? offset : size;
	count = size - first;
	int ranged = parse_range(request_header(r, "Range"), size, &first, &count);
	if (f.file.complete) {
		snprintf(text, sizeof(text), "\"%s\"", f.file.sha256);
		reply_header(r, "ETag", text);
	}
	reply_header(r, "Accept-Ranges", "bytes");
	if (ranged < 0) {
		r->code = "offset";
		r->offset = size;
		return error_set(
			err, ERROR_LIMIT, "%s has %llu bytes", path, (unsigned long long)size);
	}
	if (ranged) {
		snprintf(text, sizeof(text), "bytes %llu-%llu/%llu", (unsigned long long)first,
			(unsigned long long)(first + count - 1), (unsigned long long)size);
		reply_header(r, "Content-Range", text);
	}
	return send_blob(r, ranged ? 206 : 200, f.file.blob, first, count, err);
}

// ---- following

struct follow {
	struct controller *controller;
	char run[192], topic[256], path[FILE_PATH_MAX + 1];
	char blob[BLOB_ID_SIZE]; // "": not there yet
	uint64_t at;
	bool over; // nothing will be appended to it any more
};

struct following {
	struct follow *follow;
	struct arena arena;
};

static int look(struct database_tx *tx, void *data, struct error *err)
{
	struct following *f = data;
	struct follow *w = f->follow;
	struct file_row file;
	struct database_rows rows;
	if (file_get(tx, &f->arena, w->run, w->path, &file, err) < 0 ||
		database_run(tx, &f->arena, "SELECT ended FROM run WHERE id = ?1",
			database_values(database_text(w->run)), &rows, err) < 0)
		return -1;
	bool ended = !rows.count || database_get_integer(&rows, 0, 0, 0);
	const char *blob = file.kind && file.blob ? file.blob : "";
	bool other = *w->blob && !streq(w->blob, blob);
	if (!*w->blob)
		snprintf(w->blob, sizeof(w->blob), "%s", blob);
	w->over = ended || other || (file.kind && file.complete);
	return 0;
}

static int64_t follow_read(struct follow *w, char *buffer, size_t size)
{
	struct error err;
	if (!*w->blob)
		return 0;
	int64_t got = blob_read(w->controller->blobs, w->blob, w->at, buffer, size, &err);
	if (got > 0)
		w->at += (uint64_t)got;
	return got < 0 ? -2 : got;
}

// The count is taken before looking, so that nothing comes between; the tables are asked only when
// no byte is there.
static int64_t follow_next(void *data, char *buffer, size_t size)
{
	struct follow *w = data;
	struct controller *c = w->controller;
	uint64_t seen = hub_count(c->hub, w->topic);
	int64_t got = follow_read(w, buffer, size);
	if (got)
		return got;
	if (w->over)
		return -1;
	struct following f = {.follow = w};
	struct error err;
	int rc = database_read(c->db, look, &f, &err);
	arena_release(&f.arena);
	// What was appended before it was over is still to be read.
	if (rc < 0 || w->over || *w->blob) {
		got = rc < 0 ? -2 : follow_read(w, buffer, size);
		if (got || w->over)
			return got ? got : -1;
	}
	if (hub_is_stopped(c->hub))
		return -2;
	hub_wait(c->hub, w->topic, seen, FOLLOW_WAIT_MS);
	return 0;
}

int files_reply_follow(
	struct request *r, const char *run, const char *path, uint64_t offset, struct error *err)
{
	if (file_path_check(path, err) < 0)
		return -1;
	struct follow *w = xcalloc(1, sizeof(*w));
	w->controller = r->controller;
	w->at = offset;
	snprintf(w->run, sizeof(w->run), "%s", run);
	snprintf(w->path, sizeof(w->path), "%s", path);
	snprintf(w->topic, sizeof(w->topic), "file/%s", run);
	const struct reply_stream stream = {.status = 200,
		.media_type = "application/octet-stream",
		.size = UINT64_MAX,
		.next = follow_next,
		.done = free,
		.data = w};
	return reply_stream(r, &stream, err);
}

// ---- the list

struct listing {
	struct request *request;
	const char *run, *base, *prefix, *after;
	uint64_t limit;
	struct file_row *files;
	size_t count;
};

static int list(struct database_tx *tx, void *data, struct error *err)
{
	struct listing *l = data;
	return file_list(tx, &l->request->arena, l->run, l->base, l->prefix, l->after, l->limit,
		&l->files, &l->count, err);
}

static int write_file(
	struct json_writer *w, struct blobs *blobs, const struct file_row *f, struct error *err)
{
	uint64_t size = f->size;
	if (!f->complete) {
		size = 0;
		if (f->blob && blob_size(blobs, f->blob, &size, err) < 0)
			return -1;
	}
	json_write_open_object(w);
	json_write_member(w, "path", f->path);
	json_write_member(w, "kind", f->kind);
	json_write_member_unsigned(w, "size", size);
	json_write_member(w, "sha256", f->sha256);
	json_write_member_bool(w, "complete", f->complete);
	// Of one that was appended to since its last end: what a further attempt gets back.
	if (!f->complete)
		json_write_member_unsigned(w, "finished", f->size);
	json_write_member_unsigned(w, "mode", f->mode);
	json_write_member_int(w, "mtime_ns", f->mtime_ns);
	if (f->target)
		json_write_member(w, "target", f->target);
	json_write_close_object(w);
	return 0;
}

int files_reply_list(struct request *r, const char *run, const char *base, struct error *err)
{
	const char *prefix = request_query(r, "prefix"), *after = request_query(r, "after");
	struct listing l = {.request = r,
		.run = run,
		.base = base,
		.prefix = arena_printf(&r->arena, "%s%s", base, prefix ? prefix : ""),
		.after = after ? after : "",
		.limit = LIST_DEFAULT};
	if (request_query_number(r, "limit", 1, FILE_LIST_MAX, &l.limit, err) < 0 ||
		database_read(r->controller->db, list, &l, err) < 0)
		return -1;
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_key(w, "files");
	json_write_open_array(w);
	for (size_t i = 0; i < l.count; i++)
		if (write_file(w, r->controller->blobs, &l.files[i], err) < 0)
			return -1;
	json_write_close_array(w);
	json_write_member(w, "next", l.count == l.limit ? l.files[l.count - 1].path : NULL);
	json_write_close_object(w);
	return reply_json(r, 200, w, err);
}
