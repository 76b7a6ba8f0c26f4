// SPDX-License-Identifier: Apache-2.0
//
// Models: names with versions for what runs have left. The files stay the run's, which cannot be
// removed before its models.
#include "controller/api/files.h"

#include "base/json_decode.h"
#include "base/text.h"
#include "base/time.h"
#include "controller/state/run.h"

#include <string.h>

enum { MODEL_NAME_MAX = 255, MODELS_MAX = 1000 };

static const char columns[] = "name, version, owner, run, path, description, tags, properties, "
			      "framework, framework_version, created";
enum {
	NAME,
	VERSION,
	OWNER,
	RUN,
	PATH,
	DESCRIPTION,
	TAGS,
	PROPERTIES,
	FRAMEWORK,
	FRAMEWORK_VERSION,
	CREATED
};

// ---- registering

struct model {
	struct request *request;
	const char *name, *run, *path, *description, *framework, *framework_version;
	struct json_pairs tags, properties;
	struct database_rows rows;
};

static const struct json_field fields[] = {
	{"name", json_decode_string, offsetof(struct model, name), JSON_REQUIRED},
	{"run", json_decode_string, offsetof(struct model, run), JSON_REQUIRED},
	{"path", json_decode_string, offsetof(struct model, path), JSON_REQUIRED},
	{"description", json_decode_string, offsetof(struct model, description), JSON_NULLABLE},
	{"framework", json_decode_string, offsetof(struct model, framework), JSON_NULLABLE},
	{"framework_version", json_decode_string, offsetof(struct model, framework_version),
		JSON_NULLABLE},
	{"tags", json_decode_pairs, offsetof(struct model, tags), JSON_NULLABLE},
	{"properties", json_decode_pairs, offsetof(struct model, properties), JSON_NULLABLE},
	{0},
};

static int check_name(const char *name, struct error *err)
{
	size_t n =
		strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.");
	if (n == 0 || n > MODEL_NAME_MAX || name[n] || *name == '.')
		return error_set(err, ERROR_INVALID,
			"name: must be letters, digits, '-', '_' and '.', at most %d",
			MODEL_NAME_MAX);
	return 0;
}

static const char *pairs_text(struct arena *a, const struct json_pairs *pairs)
{
	cleanup_buffer struct buffer b = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	struct error ignored;
	json_write_open_object(w);
	for (size_t i = 0; i < pairs->count; i++)
		json_write_member(w, pairs->items[i].key, pairs->items[i].value);
	json_write_close_object(w);
	return json_writer_finish(w, &b, &ignored) < 0 ? "{}" : arena_strdup(a, b.data);
}

// Is there anything at or below that path?
static int check_path(struct database_tx *tx, const struct model *m, struct error *err)
{
	struct arena *a = &m->request->arena;
	struct file_row *files;
	size_t count;
	if (file_path_check(m->path, err) < 0 ||
		file_list(tx, a, m->run, m->path, m->path, "", 1, &files, &count, err) < 0)
		return -1;
	return count ? 0 : error_set(err, ERROR_NOT_FOUND, "the run has no %s", m->path);
}

static int store(struct database_tx *tx, void *data, struct error *err)
{
	struct model *m = data;
	struct request *r = m->request;
	if (access_run(tx, &r->arena, &r->who, m->run, ACCESS_MANAGE, err) < 0 ||
		check_path(tx, m, err) < 0)
		return -1;
	const char *sql = arena_printf(&r->arena,
		"INSERT INTO model (%s) SELECT ?1, COALESCE(MAX(version), 0) + 1, ?2, ?3, ?4, ?5, "
		"?6, "
		"?7, ?8, ?9, ?10 FROM model WHERE name = ?1 RETURNING %s",
		columns, columns);
	return database_run(tx, &r->arena, sql,
		       database_values(database_text(m->name), database_text(r->who.owner),
			       database_text(m->run), database_text(m->path),
			       database_text(m->description),
			       database_text(pairs_text(&r->arena, &m->tags)),
			       database_text(pairs_text(&r->arena, &m->properties)),
			       database_text(m->framework), database_text(m->framework_version),
			       database_integer(wall_ms())),
		       &m->rows, err) < 0
		       ? -1
		       : 0;
}

// ---- showing

static void write_model(
	struct json_writer *w, struct arena *a, const struct database_rows *rows, size_t i)
{
	json_write_open_object(w);
	json_write_member(w, "name", database_get_text(rows, i, NAME));
	json_write_member_int(w, "version", database_get_integer(rows, i, VERSION, 0));
	json_write_member(w, "user", database_get_text(rows, i, OWNER));
	json_write_member(w, "run", database_get_text(rows, i, RUN));
	json_write_member(w, "path", database_get_text(rows, i, PATH));
	json_write_member(w, "description", database_get_text(rows, i, DESCRIPTION));
	run_write_document(w, a, "tags", database_get_text(rows, i, TAGS));
	run_write_document(w, a, "properties", database_get_text(rows, i, PROPERTIES));
	json_write_member(w, "framework", database_get_text(rows, i, FRAMEWORK));
	json_write_member(w, "framework_version", database_get_text(rows, i, FRAMEWORK_VERSION));
	json_write_member_int(w, "created", database_get_integer(rows, i, CREATED, 0));
	json_write_close_object(w);
}

static int reply_one(
	struct request *r, int status, const struct database_rows *rows, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	write_model(w, &r->arena, rows, 0);
	return reply_json(r, status, w, err);
}

static int post(struct request *r, struct error *err)
{
	struct model m = {.request = r};
	struct json_decoder d = {.arena = &r->arena, .document = "body"};
	const struct json *document;
	if (request_json(r, &document, err) < 0 ||
		json_decode_object(&d, document, fields, true, &m, err) < 0 ||
		check_name(m.name, err) < 0 ||
		database_write(r->controller->db, store, &m, err) < 0)
		return -1;
	return reply_one(r, 201, &m.rows, err);
}

// Every user sees all models: they are what is shared, whoever made them.
struct search {
	struct request *request;
	const char *name; // "": all
	int64_t version;  // 0: all
	struct database_rows rows;
};

static int search(struct database_tx *tx, void *data, struct error *err)
{
	struct search *s = data;
	struct arena *a = &s->request->arena;
	const char *sql = arena_printf(a,
		"SELECT %s FROM model WHERE (?1 = '' OR name = ?1) AND (?2 = 0 OR version = ?2) "
		"ORDER BY name, version DESC LIMIT ?3",
		columns);
	return database_run(tx, a, sql,
		       database_values(database_text(s->name), database_integer(s->version),
			       database_integer(MODELS_MAX)),
		       &s->rows, err) < 0
		       ? -1
		       : 0;
}

static int find(struct request *r, const char *name, struct search *s, struct error *err)
{
	*s = (struct search){.request = r, .name = name};
	return database_read(r->controller->db, search, s, err);
}

static int reply_all(struct request *r, const struct search *s, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_key(w, "models");
	json_write_open_array(w);
	for (size_t i = 0; i < s->rows.count; i++)
		write_model(w, &r->arena, &s->rows, i);
	json_write_close_array(w);
	json_write_close_object(w);
	return reply_json(r, 200, w, err);
}

static int list(struct request *r, struct error *err)
{
	const char *name = request_query(r, "name");
	struct search s;
	return find(r, name ? name : "", &s, err) < 0 ? -1 : reply_all(r, &s, err);
}

static int versions(struct request *r, struct error *err)
{
	struct search s;
	if (find(r, request_parameter(r, "name"), &s, err) < 0)
		return -1;
	if (!s.rows.count)
		return error_set(err, ERROR_NOT_FOUND, "there is no model %s", s.name);
	return reply_all(r, &s, err);
}

static int find_version(struct request *r, struct search *s, struct error *err)
{
	uint64_t version;
	*s = (struct search){.request = r, .name = request_parameter(r, "name")};
	if (!parse_u64(request_parameter(r, "version"), &version) || version == 0 ||
		version > INT64_MAX)
		return error_set(err, ERROR_INVALID, "version: must be a number from 1");
	s->version = (int64_t)version;
	if (database_read(r->controller->db, search, s, err) < 0)
		return -1;
	return s->rows.count ? 0
			     : error_set(err, ERROR_NOT_FOUND, "there is no model %s %lld", s->name,
				       (long long)version);
}

static int show(struct request *r, struct error *err)
{
	struct search s;
	return find_version(r, &s, err) < 0 ? -1 : reply_one(r, 200, &s.rows, err);
}

static int list_files(struct request *r, struct error *err)
{
	struct search s;
	return find_version(r, &s, err) < 0
		       ? -1
		       : files_reply_list(r, database_get_text(&s.rows, 0, RUN),
				 database_get_text(&s.rows, 0, PATH), err);
}

// `path` is the file's name in the run, as the list gives it; only what is the model's.
static int get_file(struct request *r, struct error *err)
{
	struct search s;
	const char *path = request_parameter(r, "path");
	if (find_version(r, &s, err) < 0)
		return -1;
	const char *top = database_get_text(&s.rows, 0, PATH);
	if (!streq(path, top) && !starts_with(path, arena_printf(&r->arena, "%s/", top)))
		return error_set(err, ERROR_NOT_FOUND, "the model has no file %s", path);
	return files_reply_bytes(r, database_get_text(&s.rows, 0, RUN), path, 0, err);
}

enum { ALL = ROLE_ADMIN | ROLE_USER };

const struct route api_models[] = {
	{.method = "POST",
		.pattern = "/v1/models",
		.roles = ALL,
		.body_max = 1024 * 1024,
		.handle = post},
	{.method = "GET", .pattern = "/v1/models", .roles = ALL, .handle = list},
	{.method = "GET", .pattern = "/v1/models/{name}", .roles = ALL, .handle = versions},
	{.method = "GET", .pattern = "/v1/models/{name}/{version}", .roles = ALL, .handle = show},
	{.method = "GET",
		.pattern = "/v1/models/{name}/{version}/files",
		.roles = ALL,
		.handle = list_files},
	{.method = "GET",
		.pattern = "/v1/models/{name}/{version}/files/{path*}",
		.roles = ALL,
		.handle = get_file},
	{0},
};
