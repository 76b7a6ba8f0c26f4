// SPDX-License-Identifier: Apache-2.0
//
// What changes the tables of a run's files: the end of a file, folders, links, names.
#include "controller/api/files.h"

#include "base/json_decode.h"
#include "base/text.h"

#include <stdio.h>

enum { CHANGES_MAX = 5000 };

static struct json_decoder decoder_of(struct request *r)
{
	return (struct json_decoder){.arena = &r->arena, .document = "body"};
}

static int access_to_write(struct database_tx *tx, struct request *r, struct error *err)
{
	return access_run(tx, &r->arena, &r->who, request_parameter(r, "run"), ACCESS_WRITE, err);
}

static int decode_mode(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	uint64_t mode;
	if (json_decode_uint64(d, value, &mode, err) < 0)
		return -1;
	if (mode > 07777)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be from 0 to 4095");
	*(uint64_t *)target = mode;
	return 0;
}

// ---- the end of a file

struct ending {
	struct request *request;
	const char *path;
	struct file_row file;
	uint64_t size, mode;
	int64_t mtime_ns;
	const char *sha256;
	bool part;
};

static const struct json_field ending_fields[] = {
	{"size", json_decode_uint64, offsetof(struct ending, size), JSON_REQUIRED},
	{"sha256", json_decode_string, offsetof(struct ending, sha256), JSON_REQUIRED},
	{"part", json_decode_bool, offsetof(struct ending, part), 0},
	{"mode", decode_mode, offsetof(struct ending, mode), 0},
	{"mtime_ns", json_decode_int64, offsetof(struct ending, mtime_ns), 0},
	{0},
};

static int find_ending(struct database_tx *tx, void *data, struct error *err)
{
	struct ending *e = data;
	struct request *r = e->request;
	return access_to_write(tx, r, err) < 0
		       ? -1
		       : file_get(tx, &r->arena, request_parameter(r, "run"), e->path, &e->file,
				 err);
}

static int forget(struct database_tx *tx, void *data, struct error *err)
{
	struct ending *e = data;
	struct request *r = e->request;
	return access_to_write(tx, r, err) < 0
		       ? -1
		       : file_forget(
				 tx, &r->arena, request_parameter(r, "run"), e->path, e->part, err);
}

static int end_it(struct database_tx *tx, void *data, struct error *err)
{
	struct ending *e = data;
	struct request *r = e->request;
	const char *blob = e->part ? e->file.part : e->file.blob;
	const struct file_end end = {.part = e->part,
		.blob = blob ? blob : "",
		.sha256 = e->sha256,
		.size = e->size,
		.mode = (unsigned)e->mode,
		.mtime_ns = e->mtime_ns};
	return access_to_write(tx, r, err) < 0
		       ? -1
		       : file_finish(tx, &r->arena, &r->controller->limits,
				 request_parameter(r, "run"), e->path, &end, err);
}

// 1: what is there is what the writer means; 0: it is not; -1.
static int is_right(struct ending *e, struct error *err)
{
	struct blobs *blobs = e->request->controller->blobs;
	const char *blob = e->part ? e->file.part : e->file.blob;
	char hex[SHA256_HEX_SIZE];
	uint64_t size = 0;
	if (blob && blob_size(blobs, blob, &size, err) < 0)
		return -1;
	if (size != e->size)
		return 0;
	if (blob &&
		(blob_sha256(blobs, blob, size, hex, err) < 0 || blob_sync(blobs, blob, err) < 0))
		return -1;
	if (!blob) {
		uint8_t digest[SHA256_SIZE];
		sha256_of("", 0, digest);
		sha256_hex(digest, hex);
	}
	return streq(hex, e->sha256);
}

static int finish(struct request *r, struct error *err)
{
	struct ending e = {.request = r, .path = request_parameter(r, "path"), .mode = 0644};
	struct json_decoder d = decoder_of(r);
	struct database *db = r->controller->db;
	const struct json *document;
	if (request_json(r, &document, err) < 0 ||
		json_decode_object(&d, document, ending_fields, true, &e, err) < 0 ||
		file_path_check(e.path, err) < 0 || database_read(db, find_ending, &e, err) < 0)
		return -1;
	// The same end again, as from a writer that lost the answer.
	if (!e.part && e.file.complete && e.file.size == e.size && streq(e.file.sha256, e.sha256))
		return reply_empty(r, 204, err);
	int right = is_right(&e, err);
	if (right < 0)
		return -1;
	if (!right) {
		if (database_write(db, forget, &e, err) < 0)
			return -1;
		r->code = "digest_mismatch";
		return error_set(err, ERROR_INTEGRITY,
			"%s: what is there is not what was meant; send it again", e.path);
	}
	if (database_write(db, end_it, &e, err) < 0)
		return -1;
	char topic[256];
	snprintf(topic, sizeof(topic), "file/%s", request_parameter(r, "run"));
	database_notify_now(db, topic);
	return reply_empty(r, 204, err);
}

// ---- a range of the file for its part

struct keeping {
	struct request *request;
	struct file_row file;
	uint64_t offset, size, at;
	char part[BLOB_ID_SIZE];
};

static const struct json_field keeping_fields[] = {
	{"offset", json_decode_uint64, offsetof(struct keeping, offset), JSON_REQUIRED},
	{"size", json_decode_uint64, offsetof(struct keeping, size), JSON_REQUIRED},
	{"at", json_decode_uint64, offsetof(struct keeping, at), JSON_REQUIRED},
	{0},
};

static int open_part(struct database_tx *tx, void *data, struct error *err)
{
	struct keeping *k = data;
	struct request *r = k->request;
	const char *run = request_parameter(r, "run"), *path = request_parameter(r, "path");
	return access_to_write(tx, r, err) < 0 ||
			       file_get(tx, &r->arena, run, path, &k->file, err) < 0
		       ? -1
		       : file_open(tx, &r->arena, &r->controller->limits, run, path, true, k->part,
				 err);
}

static int keep(struct request *r, struct error *err)
{
	struct keeping k = {.request = r};
	struct json_decoder d = decoder_of(r);
	const struct json *document;
	if (request_json(r, &document, err) < 0 ||
		json_decode_object(&d, document, keeping_fields, true, &k, err) < 0 ||
		database_write(r->controller->db, open_part, &k, err) < 0)
		return -1;
	if (!k.file.blob)
		return error_set(err, ERROR_NOT_FOUND, "there are no bytes to keep");
	int rc = blob_copy(r->controller->blobs, k.file.blob, k.offset, k.size, k.part, &k.at, err);
	if (rc == 0)
		return reply_empty(r, 204, err);
	if (rc > 0) {
		r->code = "offset";
		r->offset = k.at;
		error_set(err, ERROR_LIMIT, "the part has %llu bytes", (unsigned long long)k.at);
	}
	return -1;
}

int files_post(struct request *r, struct error *err)
{
	bool ends, stays;
	if (request_query_flag(r, "finish", &ends, err) < 0 ||
		request_query_flag(r, "keep", &stays, err) < 0)
		return -1;
	if (ends)
		return finish(r, err);
	if (stays)
		return keep(r, err);
	return error_set(err, ERROR_INVALID, "finish=1 or keep=1 is missing");
}

// ---- folders, links, names

struct change {
	const char *what, *path, *target, *from, *to;
	uint64_t mode;
};
struct changes {
	struct request *request;
	struct change *items;
	size_t count;
};

static const struct json_field change_fields[] = {
	{"do", json_decode_string, offsetof(struct change, what), JSON_REQUIRED},
	{"path", json_decode_string, offsetof(struct change, path), 0},
	{"target", json_decode_string, offsetof(struct change, target), 0},
	{"from", json_decode_string, offsetof(struct change, from), 0},
	{"to", json_decode_string, offsetof(struct change, to), 0},
	{"mode", decode_mode, offsetof(struct change, mode), 0},
	{0},
};

static int decode_change(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct change *c = target;
	c->mode = 0755;
	if (json_decode_object(d, value, change_fields, true, c, err) < 0)
		return -1;
	bool move = streq(c->what, "move"), link = streq(c->what, "link");
	if (!move && !link && !streq(c->what, "folder") && !streq(c->what, "remove"))
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "do: must be folder, link, remove or move");
	if (move ? !c->from || !c->to : !c->path || (link && !c->target))
		return json_decode_fail(d, value, err, ERROR_INVALID, "%s needs %s", c->what,
			move   ? "from and to"
			: link ? "path and target"
			       : "path");
	return 0;
}

static int decode_changes(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct changes *c = target;
	return json_decode_array(d, value, decode_change, sizeof(struct change), CHANGES_MAX,
		(void **)&c->items, &c->count, err);
}

static int apply_one(
	struct database_tx *tx, struct request *r, const struct change *c, struct error *err)
{
	const char *run = request_parameter(r, "run");
	const struct controller_limits *limits = &r->controller->limits;
	if (streq(c->what, "move"))
		return file_move(tx, &r->arena, run, c->from, c->to, err);
	if (streq(c->what, "link"))
		return file_link(tx, &r->arena, limits, run, c->path, c->target, err);
	if (streq(c->what, "folder"))
		return file_folder(tx, &r->arena, limits, run, c->path, (unsigned)c->mode, err);
	return file_path_check(c->path, err) < 0 ? -1
						 : file_remove(tx, &r->arena, run, c->path, err);
}

static int apply(struct database_tx *tx, void *data, struct error *err)
{
	const struct changes *c = data;
	if (access_to_write(tx, c->request, err) < 0)
		return -1;
	for (size_t i = 0; i < c->count; i++)
		if (apply_one(tx, c->request, &c->items[i], err) < 0)
			return error_context(err, "changes[%zu]", i);
	return 0;
}

int files_changes(struct request *r, struct error *err)
{
	static const struct json_field fields[] = {
		{"changes", decode_changes, 0, JSON_REQUIRED},
		{0},
	};
	struct changes c = {.request = r};
	struct json_decoder d = decoder_of(r);
	const struct json *document;
	if (request_json(r, &document, err) < 0 ||
		json_decode_object(&d, document, fields, true, &c, err) < 0 ||
		database_write(r->controller->db, apply, &c, err) < 0)
		return -1;
	return reply_empty(r, 204, err);
}
