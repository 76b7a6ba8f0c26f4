// SPDX-License-Identifier: Apache-2.0
#include "controller/api/files.h"

#include "base/json_decode.h"

struct asking {
	struct request *request;
	struct file_row file;
};

static int ask(struct database_tx *tx, void *data, struct error *err)
{
	struct request *r = data;
	return access_run(tx, &r->arena, &r->who, request_parameter(r, "run"), ACCESS_READ, err);
}

static int list(struct request *r, struct error *err)
{
	if (database_read(r->controller->db, ask, r, err) < 0)
		return -1;
	return files_reply_list(r, request_parameter(r, "run"), "", err);
}

static int ask_file(struct database_tx *tx, void *data, struct error *err)
{
	struct asking *q = data;
	struct request *r = q->request;
	return ask(tx, r, err) < 0 ? -1
				   : file_get(tx, &r->arena, request_parameter(r, "run"),
					     request_parameter(r, "path"), &q->file, err);
}

static int blob_size_or_0(struct request *r, const char *blob, uint64_t *size, struct error *err)
{
	*size = 0;
	return blob ? blob_size(r->controller->blobs, blob, size, err) : 0;
}

static int stat_reply(struct request *r, struct error *err)
{
	struct asking q = {.request = r};
	uint64_t size, part;
	if (database_read(r->controller->db, ask_file, &q, err) < 0 ||
		blob_size_or_0(r, q.file.blob, &size, err) < 0 ||
		blob_size_or_0(r, q.file.part, &part, err) < 0)
		return -1;
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "kind", q.file.kind);
	json_write_member_unsigned(w, "size", q.file.complete ? q.file.size : size);
	json_write_member_unsigned(w, "part", part);
	json_write_member_bool(w, "complete", q.file.complete);
	json_write_member(w, "sha256", q.file.sha256);
	json_write_close_object(w);
	return reply_json(r, 200, w, err);
}

static int get(struct request *r, struct error *err)
{
	const char *run = request_parameter(r, "run"), *path = request_parameter(r, "path");
	uint64_t offset = 0;
	bool stat, follow;
	if (file_path_check(path, err) < 0 ||
		request_query_number(r, "offset", 0, INT64_MAX, &offset, err) < 0 ||
		request_query_flag(r, "stat", &stat, err) < 0 ||
		request_query_flag(r, "follow", &follow, err) < 0)
		return -1;
	if (stat)
		return stat_reply(r, err);
	if (database_read(r->controller->db, ask, r, err) < 0)
		return -1;
	return follow ? files_reply_follow(r, run, path, offset, err)
		      : files_reply_bytes(r, run, path, offset, err);
}

static int mark_in(struct database_tx *tx, void *data, struct error *err)
{
	struct request *r = data;
	const char *run = request_parameter(r, "run");
	return access_run(tx, &r->arena, &r->who, run, ACCESS_WRITE, err) < 0
		       ? -1
		       : file_manifest(tx, &r->arena, run, err);
}

// What the writer counted is its own matter; that it is a document is checked.
static int mark(struct request *r, struct error *err)
{
	struct counts {
		uint64_t files, bytes;
	} counts = {0};
	static const struct json_field fields[] = {
		{"files", json_decode_uint64, offsetof(struct counts, files), 0},
		{"bytes", json_decode_uint64, offsetof(struct counts, bytes), 0},
		{0},
	};
	struct json_decoder d = {.arena = &r->arena, .document = "body"};
	const struct json *document;
	if (request_json(r, &document, err) < 0 ||
		json_decode_object(&d, document, fields, true, &counts, err) < 0)
		return -1;
	if (database_write(r->controller->db, mark_in, r, err) < 0) {
		if (err->kind == ERROR_INVALID) // a file is not finished
			r->code = "conflict";
		return -1;
	}
	return reply_empty(r, 204, err);
}

enum { READERS = ROLE_ADMIN | ROLE_USER | ROLE_RUN | ROLE_METRICS, PIECE_MAX = 64 * 1024 * 1024 };

const struct route api_files[] = {
	{.method = "GET", .pattern = "/v1/runs/{run}/files", .roles = READERS, .handle = list},
	{.method = "GET",
		.pattern = "/v1/runs/{run}/files/{path*}",
		.roles = READERS,
		.handle = get},
	{.method = "PATCH",
		.pattern = "/v1/runs/{run}/files/{path*}",
		.roles = ROLE_RUN,
		.body_max = PIECE_MAX,
		.begin = files_append_begin,
		.piece = files_append_piece,
		.handle = files_append,
		.release = files_append_release},
	{.method = "PUT",
		.pattern = "/v1/runs/{run}/files/{path*}",
		.roles = ROLE_RUN,
		.body_max = PIECE_MAX,
		.begin = files_put_begin,
		.piece = files_put_piece,
		.handle = files_put,
		.release = files_put_release},
	{.method = "POST",
		.pattern = "/v1/runs/{run}/files/{path*}",
		.roles = ROLE_RUN,
		.body_max = 64 * 1024,
		.handle = files_post},
	{.method = "POST",
		.pattern = "/v1/runs/{run}/changes",
		.roles = ROLE_RUN,
		.body_max = 1024 * 1024,
		.handle = files_changes},
	{.method = "PUT",
		.pattern = "/v1/runs/{run}/manifest",
		.roles = ROLE_RUN,
		.body_max = 64 * 1024,
		.handle = mark},
	{0},
};
