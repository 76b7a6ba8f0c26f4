// SPDX-License-Identifier: Apache-2.0
//
// Bytes on their way in: PATCH (append) and PUT (a whole small file).
#include "controller/api/files.h"

#include "base/text.h"

#include <stdio.h>

// ---- which blob

struct opening {
	struct request *request;
	const char *run, *path;
	bool part, changed;
	char blob[BLOB_ID_SIZE];
};

static int look(struct database_tx *tx, void *data, struct error *err)
{
	struct opening *o = data;
	struct arena *a = &o->request->arena;
	if (access_run(tx, a, &o->request->who, o->run, ACCESS_WRITE, err) < 0)
		return -1;
	int rc = file_is_open(tx, a, o->run, o->path, o->part, o->blob, err);
	o->changed = rc == 0;
	return rc < 0 ? -1 : 0;
}

static int open_it(struct database_tx *tx, void *data, struct error *err)
{
	struct opening *o = data;
	struct arena *a = &o->request->arena;
	return access_run(tx, a, &o->request->who, o->run, ACCESS_WRITE, err) < 0
		       ? -1
		       : file_open(tx, a, &o->request->controller->limits, o->run, o->path, o->part,
				 o->blob, err);
}

// An append to what is being appended to already changes no table: most do not.
static int find_blob(struct opening *o, struct error *err)
{
	struct controller *c = o->request->controller;
	if (database_read(c->db, look, o, err) < 0)
		return -1;
	return o->changed ? database_write(c->db, open_it, o, err) : 0;
}

// ---- append

struct append {
	struct request *request;
	struct blob_writer *writer; // NULL: ended
	uint64_t first, size, taken;
};

static int parse_range(const char *text, struct append *p, struct error *err)
{
	uint64_t first = 0, last = 0;
	const char *dash = text ? strchr(text, '-') : NULL,
		   *slash = dash ? strchr(dash, '/') : NULL;
	if (!slash || !starts_with(text, "bytes ") || !streq(slash, "/*") ||
		!parse_u64_n(text + 6, (size_t)(dash - text - 6), &first) ||
		!parse_u64_n(dash + 1, (size_t)(slash - dash - 1), &last) || last < first ||
		last >= INT64_MAX)
		return error_set(err, ERROR_INVALID,
			"Content-Range: must be \"bytes FIRST-LAST/*\" with the place of what is "
			"sent");
	p->first = first;
	p->size = last - first + 1;
	return 0;
}

static void tell_followers(struct request *r)
{
	char topic[256];
	snprintf(topic, sizeof(topic), "file/%s", request_parameter(r, "run"));
	database_notify_now(r->controller->db, topic);
}

static int end_append(struct append *p, uint64_t *size, struct error *err)
{
	int rc = p->writer ? blob_finish(steal(p->writer), false, size, err) : 0;
	tell_followers(p->request);
	return rc;
}

int files_append_begin(struct request *r, struct error *err)
{
	struct append *p = arena_new(&r->arena, struct append);
	struct opening o = {
		.request = r,
		.run = request_parameter(r, "run"),
		.path = request_parameter(r, "path"),
	};
	uint64_t limit = r->controller->limits.run_bytes;
	p->request = r;
	if (request_query_flag(r, "part", &o.part, err) < 0 ||
		parse_range(request_header(r, "Content-Range"), p, err) < 0)
		return -1;
	if (limit && p->first + p->size > limit) {
		r->code = "too_large";
		return error_set(
			err, ERROR_LIMIT, "files may have %llu bytes", (unsigned long long)limit);
	}
	if (find_blob(&o, err) < 0)
		return -1;
	uint64_t there;
	int rc = blob_append(r->controller->blobs, o.blob, p->first, &p->writer, &there, err);
	if (rc < 0)
		return -1;
	r->context = p;
	if (rc == 0)
		blob_expect(p->writer, p->size);
	if (rc == 0)
		return 0;
	r->code = "offset";
	r->offset = there;
	return error_set(err, ERROR_LIMIT, "%s has %llu bytes: go on from there", o.path,
		(unsigned long long)there);
}

int files_append_piece(struct request *r, const void *data, size_t size, struct error *err)
{
	struct append *p = r->context;
	if (p->taken + size > p->size)
		return error_set(err, ERROR_INVALID, "the body is longer than Content-Range says");
	p->taken += size;
	return blob_write(p->writer, data, size, err);
}

int files_append(struct request *r, struct error *err)
{
	struct append *p = r->context;
	char text[24];
	uint64_t size = 0;
	if (end_append(p, &size, err) < 0)
		return -1;
	if (p->taken != p->size)
		return error_set(err, ERROR_INVALID, "the body is shorter than Content-Range says");
	snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
	reply_header(r, "Upload-Offset", text);
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member_unsigned(w, "size", size);
	json_write_close_object(w);
	return reply_json(r, 200, w, err);
}

// The client is gone: what has come stays.
void files_append_release(struct request *r)
{
	struct append *p = r->context;
	uint64_t size;
	struct error ignored;
	if (p && p->writer)
		end_append(p, &size, &ignored);
}

// ---- a whole file

struct whole {
	struct blob_writer *writer;
	char blob[BLOB_ID_SIZE];
	bool kept; // it is a file's now
	struct file_end end;
};

static int may_write(struct database_tx *tx, void *data, struct error *err)
{
	struct request *r = data;
	return access_run(tx, &r->arena, &r->who, request_parameter(r, "run"), ACCESS_WRITE, err);
}

int files_put_begin(struct request *r, struct error *err)
{
	struct whole *p = arena_new(&r->arena, struct whole);
	const char *hash = request_header(r, "Stoker-Sha256");
	uint64_t mode = 0644, there;
	int64_t mtime = 0;
	if (!hash || !sha256_is_hex(hash))
		return error_set(
			err, ERROR_INVALID, "Stoker-Sha256: must be 64 hexadecimal digits");
	if (file_path_check(request_parameter(r, "path"), err) < 0 ||
		request_query_number(r, "mode", 0, 07777, &mode, err) < 0 ||
		request_query_integer(r, "mtime_ns", &mtime, err) < 0)
		return -1;
	// It is asked again at the end; here, before anything is stored for who may not.
	if (database_read(r->controller->db, may_write, r, err) < 0)
		return -1;
	blob_id_make(p->blob);
	p->end = (struct file_end){.part = true,
		.blob = p->blob,
		.sha256 = hash,
		.mode = (unsigned)mode,
		.mtime_ns = mtime};
	if (blob_append(r->controller->blobs, p->blob, 0, &p->writer, &there, err) < 0)
		return -1;
	r->context = p;
	return 0;
}

int files_put_piece(struct request *r, const void *data, size_t size, struct error *err)
{
	struct whole *p = r->context;
	return blob_write(p->writer, data, size, err);
}

static int put_whole(struct database_tx *tx, void *data, struct error *err)
{
	struct request *r = data;
	struct whole *p = r->context;
	const char *run = request_parameter(r, "run"), *path = request_parameter(r, "path");
	const struct controller_limits *limits = &r->controller->limits;
	return access_run(tx, &r->arena, &r->who, run, ACCESS_WRITE, err) < 0
		       ? -1
		       : file_replace(tx, &r->arena, limits, run, path, &p->end, err);
}

int files_put(struct request *r, struct error *err)
{
	struct whole *p = r->context;
	struct controller *c = r->controller;
	char hex[SHA256_HEX_SIZE];
	if (blob_finish(steal(p->writer), true, &p->end.size, err) < 0 ||
		blob_sha256(c->blobs, p->blob, p->end.size, hex, err) < 0)
		return -1;
	if (!streq(hex, p->end.sha256)) {
		r->code = "digest_mismatch";
		return error_set(err, ERROR_INTEGRITY, "%s: what came has the SHA-256 %s",
			request_parameter(r, "path"), hex);
	}
	if (database_write(c->db, put_whole, r, err) < 0)
		return -1;
	p->kept = true;
	tell_followers(r);
	return reply_empty(r, 204, err);
}

void files_put_release(struct request *r)
{
	struct whole *p = r->context;
	struct error ignored;
	uint64_t size;
	if (p && p->writer)
		blob_finish(p->writer, false, &size, &ignored);
	if (p && !p->kept)
		blob_remove(r->controller->blobs, p->blob, &ignored);
}
