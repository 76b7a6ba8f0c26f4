// SPDX-License-Identifier: Apache-2.0
//
// Archives of source directories, under their own hashes: sent once, whoever runs them and however
// often.
#include "controller/api/files.h"

#include "base/text.h"
#include "base/time.h"

#include <string.h>

struct snapshot {
	struct request *request;
	const char *name;
	struct blob_writer *writer;
	char blob[BLOB_ID_SIZE];
	uint64_t size;
	bool kept, there;
	struct database_rows rows;
};

static int check_name(const char *name, struct error *err)
{
	if (!sha256_is_hex(name))
		return error_set(err, ERROR_INVALID, "a snapshot's name is its SHA-256");
	return 0;
}

static int find(struct database_tx *tx, void *data, struct error *err)
{
	struct snapshot *s = data;
	return database_run(tx, &s->request->arena,
		       "SELECT blob, size FROM snapshot WHERE sha256 = ?1",
		       database_values(database_text(s->name)), &s->rows, err) < 0
		       ? -1
		       : 0;
}

// ---- sending one

static int begin(struct request *r, struct error *err)
{
	struct snapshot *s = arena_new(&r->arena, struct snapshot);
	uint64_t there;
	s->request = r;
	s->name = request_parameter(r, "sha256");
	if (check_name(s->name, err) < 0)
		return -1;
	blob_id_make(s->blob);
	if (blob_append(r->controller->blobs, s->blob, 0, &s->writer, &there, err) < 0)
		return -1;
	r->context = s;
	return 0;
}

static int take(struct request *r, const void *data, size_t size, struct error *err)
{
	struct snapshot *s = r->context;
	uint64_t limit = r->controller->limits.snapshot_bytes;
	s->size += size;
	if (limit && s->size > limit) {
		r->code = "too_large";
		return error_set(err, ERROR_LIMIT, "snapshots may have %llu bytes",
			(unsigned long long)limit);
	}
	return blob_write(s->writer, data, size, err);
}

static int store(struct database_tx *tx, void *data, struct error *err)
{
	struct snapshot *s = data;
	int64_t n = database_run(tx, &s->request->arena,
		"INSERT INTO snapshot (sha256, blob, size, used) VALUES (?1, ?2, ?3, ?4) "
		"ON CONFLICT (sha256) DO NOTHING",
		database_values(database_text(s->name), database_text(s->blob),
			database_integer((int64_t)s->size), database_integer(wall_ms())),
		NULL, err);
	s->kept = n > 0;
	return n < 0 ? -1 : 0;
}

static int finish(struct request *r, struct error *err)
{
	struct snapshot *s = r->context;
	char hex[SHA256_HEX_SIZE];
	if (blob_finish(steal(s->writer), true, &s->size, err) < 0 ||
		blob_sha256(r->controller->blobs, s->blob, s->size, hex, err) < 0)
		return -1;
	if (!streq(hex, s->name)) {
		r->code = "digest_mismatch";
		return error_set(err, ERROR_INTEGRITY, "what came has the SHA-256 %s", hex);
	}
	if (database_write(r->controller->db, store, s, err) < 0)
		return -1;
	return reply_empty(r, s->kept ? 201 : 200, err);
}

static void release(struct request *r)
{
	struct snapshot *s = r->context;
	struct error ignored;
	uint64_t size;
	if (s && s->writer)
		blob_finish(s->writer, false, &size, &ignored);
	if (s && !s->kept)
		blob_remove(r->controller->blobs, s->blob, &ignored);
}

// ---- fetching

// Whoever knows the hash of a folder could have sent it; but what it holds is told only to those
// who run it. Users learn no more than that it is there (HEAD), which spares sending it again.
static int may_read(struct database_tx *tx, void *data, struct error *err)
{
	struct snapshot *s = data;
	struct request *r = s->request;
	struct database_rows rows;
	const char *run = r->who.run;
	if (access_run(tx, &r->arena, &r->who, run, ACCESS_SNAPSHOT, err) < 0 ||
		database_run(tx, &r->arena, "SELECT snapshot FROM run WHERE id = ?1",
			database_values(database_text(run)), &rows, err) < 0)
		return -1;
	const char *own = rows.count ? database_get_text(&rows, 0, 0) : NULL;
	if (!own || !streq(own, s->name))
		return error_set(err, ERROR_NOT_FOUND, "it is not the snapshot of %s", run);
	return find(tx, data, err);
}

static int reply_there(struct request *r, const char *name, uint64_t size, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "sha256", name);
	json_write_member_unsigned(w, "size", size);
	json_write_close_object(w);
	return reply_json(r, 200, w, err);
}

static int get(struct request *r, struct error *err)
{
	struct snapshot s = {.request = r, .name = request_parameter(r, "sha256")};
	bool run = r->who.role == ROLE_RUN;
	if (check_name(s.name, err) < 0 ||
		database_read(r->controller->db, run ? may_read : find, &s, err) < 0)
		return -1;
	if (!s.rows.count)
		return error_set(err, ERROR_NOT_FOUND, "there is no snapshot %s", s.name);
	uint64_t size = (uint64_t)database_get_integer(&s.rows, 0, 1, 0);
	return run ? files_reply_blob(r, database_get_text(&s.rows, 0, 0), size, err)
		   : reply_there(r, s.name, size, err);
}

const struct route api_snapshots[] = {
	{.method = "PUT",
		.pattern = "/v1/snapshots/{sha256}",
		.roles = ROLE_ADMIN | ROLE_USER,
		.body_max = (size_t)1024 * 1024 * 1024,
		.begin = begin,
		.piece = take,
		.handle = finish,
		.release = release},
	{.method = "GET",
		.pattern = "/v1/snapshots/{sha256}",
		.roles = ROLE_ADMIN | ROLE_USER | ROLE_RUN,
		.handle = get},
	{0},
};
