// SPDX-License-Identifier: Apache-2.0
#include "controller/api/api.h"

#include "base/json_decode.h"
#include "base/time.h"
#include "controller/state/node.h"
#include "controller/state/schedule.h"

struct asking {
	struct request *request;
	struct json_writer *writer;
	const char *name, *version;
	bool replace, drain;
	char id[NODE_ID_SIZE], token[TOKEN_TEXT_SIZE];
};

// ---- joining

static const struct json_field fields[] = {
	{"name", json_decode_string, offsetof(struct asking, name), JSON_REQUIRED},
	{"version", json_decode_string, offsetof(struct asking, version), JSON_NULLABLE},
	{"replace", json_decode_bool, offsetof(struct asking, replace), 0},
	{0},
};

static int join_in(struct database_tx *tx, void *data, struct error *err)
{
	struct asking *q = data;
	struct request *r = q->request;
	int rc = node_join(
		tx, &r->arena, q->name, q->version, q->replace, wall_ms(), q->id, q->token, err);
	if (rc > 0)
		r->code = "conflict";
	return rc ? -1 : 0;
}

static int join(struct request *r, struct error *err)
{
	struct asking q = {.request = r};
	struct json_decoder d = {.arena = &r->arena, .document = "body"};
	const struct json *document;
	if (request_json(r, &document, err) < 0 ||
		json_decode_object(&d, document, fields, true, &q, err) < 0 ||
		database_write(r->controller->db, join_in, &q, err) < 0)
		return -1;
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "node", q.id);
	json_write_member(w, "token", q.token);
	json_write_close_object(w);
	return reply_json(r, 201, w, err);
}

static int leave_in(struct database_tx *tx, void *data, struct error *err)
{
	struct request *r = data;
	return node_remove(tx, &r->arena, r->who.node, wall_ms(), err);
}

static int leave(struct request *r, struct error *err)
{
	return database_write(r->controller->db, leave_in, r, err) < 0 ? -1
								       : reply_empty(r, 204, err);
}

// ---- showing and deciding

static int show_in(struct database_tx *tx, void *data, struct error *err)
{
	struct asking *q = data;
	struct request *r = q->request;
	api_begin(&q->writer);
	return node_write(
		tx, &r->arena, q->name, wall_ms(), &r->controller->limits, q->writer, err);
}

static int list(struct request *r, struct error *err)
{
	struct asking q = {.request = r};
	int rc = database_read(r->controller->db, show_in, &q, err);
	return api_reply(r, 200, q.writer, rc, err);
}

static int get(struct request *r, struct error *err)
{
	struct asking q = {.request = r, .name = request_parameter(r, "node")};
	int rc = database_read(r->controller->db, show_in, &q, err);
	return api_reply(r, 200, q.writer, rc, err);
}

static int drain_in(struct database_tx *tx, void *data, struct error *err)
{
	struct asking *q = data;
	struct request *r = q->request;
	if (node_drain(tx, &r->arena, q->name, q->drain, err) < 0 ||
		(!q->drain && schedule(tx, &r->arena, r->controller, wall_ms(), err) < 0))
		return -1;
	return show_in(tx, data, err);
}

static int set_drain(struct request *r, bool drain, struct error *err)
{
	struct asking q = {.request = r, .name = request_parameter(r, "node"), .drain = drain};
	int rc = database_write(r->controller->db, drain_in, &q, err);
	return api_reply(r, 200, q.writer, rc, err);
}

static int drain(struct request *r, struct error *err)
{
	return set_drain(r, true, err);
}

static int undrain(struct request *r, struct error *err)
{
	return set_drain(r, false, err);
}

static int remove_in(struct database_tx *tx, void *data, struct error *err)
{
	struct request *r = data;
	return node_remove(tx, &r->arena, request_parameter(r, "node"), wall_ms(), err);
}

static int remove_node(struct request *r, struct error *err)
{
	return database_write(r->controller->db, remove_in, r, err) < 0 ? -1
									: reply_empty(r, 204, err);
}

enum { SEE = ROLE_ADMIN | ROLE_USER, SMALL = 64 * 1024 };

const struct route api_nodes[] = {
	{.method = "POST",
		.pattern = "/v1/nodes",
		.roles = ROLE_JOIN | ROLE_ADMIN,
		.body_max = SMALL,
		.handle = join},
	{.method = "DELETE", .pattern = "/v1/node", .roles = ROLE_NODE, .handle = leave},
	{.method = "GET", .pattern = "/v1/nodes", .roles = SEE, .handle = list},
	{.method = "GET", .pattern = "/v1/nodes/{node}", .roles = SEE, .handle = get},
	{.method = "POST",
		.pattern = "/v1/nodes/{node}/drain",
		.roles = ROLE_ADMIN,
		.body_max = SMALL,
		.handle = drain},
	{.method = "POST",
		.pattern = "/v1/nodes/{node}/undrain",
		.roles = ROLE_ADMIN,
		.body_max = SMALL,
		.handle = undrain},
	{.method = "DELETE",
		.pattern = "/v1/nodes/{node}",
		.roles = ROLE_ADMIN,
		.handle = remove_node},
	{0},
};
