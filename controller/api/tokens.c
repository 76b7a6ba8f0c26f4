// SPDX-License-Identifier: Apache-2.0
#include "controller/state/tokens.h"

#include "base/json_decode.h"
#include "base/time.h"
#include "controller/api/api.h"

static int who_am_i(struct request *r, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "version", STOKER_VERSION);
	json_write_member(w, "user", *r->who.owner ? r->who.owner : NULL);
	json_write_member(w, "role", role_name(r->who.role));
	json_write_close_object(w);
	return reply_json(r, 200, w, err);
}

struct listing {
	struct request *request;
	struct database_rows rows;
};

static int list_read(struct database_tx *tx, void *data, struct error *err)
{
	struct listing *l = data;
	return tokens_list(tx, &l->request->arena, &l->rows, err);
}

static int list(struct request *r, struct error *err)
{
	struct listing l = {.request = r};
	if (database_read(r->controller->db, list_read, &l, err) < 0)
		return -1;
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_key(w, "tokens");
	tokens_write(w, &l.rows);
	json_write_close_object(w);
	return reply_json(r, 200, w, err);
}

struct making {
	struct token_options options;
	char text[TOKEN_TEXT_SIZE];
};

static int make_write(struct database_tx *tx, void *data, struct error *err)
{
	struct making *m = data;
	return token_make(tx, &m->options, m->text, err);
}

struct asked {
	const char *role, *user;
	int64_t expires;
};
static const struct json_field asked_fields[] = {
	{"role", json_decode_string, offsetof(struct asked, role), JSON_REQUIRED},
	{"user", json_decode_string, offsetof(struct asked, user), JSON_NULLABLE},
	{"expires", json_decode_int64, offsetof(struct asked, expires), JSON_NULLABLE},
	{0},
};

static int read_making(struct request *r, struct making *m, struct error *err)
{
	struct asked q = {0};
	struct json_decoder d = {.arena = &r->arena, .document = "body"};
	const struct json *document;
	if (request_json(r, &document, err) < 0 ||
		json_decode_object(&d, document, asked_fields, true, &q, err) < 0)
		return -1;
	m->options = (struct token_options){.owner = q.user, .expires = q.expires};
	if (q.expires && q.expires <= wall_ms())
		return error_set(err, ERROR_INVALID, "expires: is in the past");
	return token_options_check(&m->options, q.role, err);
}

static int make(struct request *r, struct error *err)
{
	struct making m = {0};
	if (read_making(r, &m, err) < 0 ||
		database_write(r->controller->db, make_write, &m, err) < 0)
		return -1;
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	token_write(w, &m.options, m.text);
	return reply_json(r, 201, w, err);
}

static int revoke_write(struct database_tx *tx, void *data, struct error *err)
{
	return token_revoke(tx, data, err);
}

static int revoke(struct request *r, struct error *err)
{
	const char *id = request_parameter(r, "id");
	if (database_write(r->controller->db, revoke_write, (void *)id, err) < 0)
		return -1;
	return reply_empty(r, 204, err);
}

enum { ALL = ROLE_NONE - 1 };

const struct route api_tokens[] = {
	{.method = "GET", .pattern = "/v1/", .roles = ALL, .handle = who_am_i},
	{.method = "GET", .pattern = "/v1/tokens", .roles = ROLE_ADMIN, .handle = list},
	{.method = "POST",
		.pattern = "/v1/tokens",
		.roles = ROLE_ADMIN,
		.body_max = 64 * 1024,
		.handle = make},
	{.method = "DELETE", .pattern = "/v1/tokens/{id}", .roles = ROLE_ADMIN, .handle = revoke},
	{0},
};
