// SPDX-License-Identifier: Apache-2.0
#include "controller/api/api.h"

#include "base/json_decode.h"
#include "base/text.h"
#include "base/time.h"
#include "controller/state/run.h"
#include "controller/state/schedule.h"

#include <string.h>

enum { USERS = ROLE_ADMIN | ROLE_USER, PAGE = 100, PAGE_MAX = 1000 };

struct asking {
	struct request *request;
	struct json_writer *writer;
	struct run_submission submission;
	struct run_list list;
	char id[RUN_ID_SIZE];
	bool made;
};

static int show(struct database_tx *tx, struct asking *q, const char *id, struct error *err)
{
	struct request *r = q->request;
	return run_write(
		tx, &r->arena, id, true, wall_ms(), &r->controller->limits, q->writer, err);
}

// ---- submit

static const struct json_field fields[] = {
	{"job", json_decode_any, offsetof(struct run_submission, job), JSON_REQUIRED},
	{"snapshot", json_decode_string, offsetof(struct run_submission, snapshot), JSON_NULLABLE},
	{"secrets", json_decode_any, offsetof(struct run_submission, secrets), JSON_NULLABLE},
	{"properties", json_decode_any, offsetof(struct run_submission, properties), JSON_NULLABLE},
	{0},
};

static int check_texts(const struct json *object, const char *name, struct error *err)
{
	if (!object)
		return 0;
	bool good = object->type == JSON_OBJECT;
	for (size_t i = 0; good && i < object->count; i++)
		good = object->members[i].value.type == JSON_STRING;
	return good ? 0 : error_set(err, ERROR_INVALID, "%s: must be an object of texts", name);
}

// Of a header, which may hold any bytes; tables take only texts.
static bool is_printable(const char *text)
{
	for (const char *p = text; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			return false;
	return *text;
}

static int submit_in(struct database_tx *tx, void *data, struct error *err)
{
	struct asking *q = data;
	struct request *r = q->request;
	api_begin(&q->writer);
	return run_submit(tx, &r->arena, &r->controller->limits, &q->submission, q->id, &q->made,
		       err) < 0 ||
			       schedule(tx, &r->arena, r->controller, wall_ms(), err) < 0
		       ? -1
		       : show(tx, q, q->id, err);
}

static int submit(struct request *r, struct error *err)
{
	struct asking q = {.request = r};
	struct json_decoder d = {.arena = &r->arena, .document = "body"};
	struct run_submission *s = &q.submission;
	const struct json *document;
	if (request_json(r, &document, err) < 0 ||
		json_decode_object(&d, document, fields, true, s, err) < 0 ||
		check_texts(s->secrets, "secrets", err) < 0 ||
		check_texts(s->properties, "properties", err) < 0)
		return -1;
	if (s->job->type != JSON_OBJECT)
		return error_set(err, ERROR_INVALID, "job: must be an object");
	if (s->snapshot && !sha256_is_hex(s->snapshot))
		return error_set(err, ERROR_INVALID, "snapshot: must be a SHA-256");
	s->owner = r->who.owner;
	s->key = request_header(r, "Idempotency-Key");
	if (s->key && !is_printable(s->key))
		return error_set(err, ERROR_INVALID, "Idempotency-Key: must be printable ASCII");
	s->now = wall_ms();
	int rc = database_write(r->controller->db, submit_in, &q, err);
	return api_reply(r, q.made ? 201 : 200, q.writer, rc, err);
}

// ---- reading

static int list_in(struct database_tx *tx, void *data, struct error *err)
{
	struct asking *q = data;
	struct request *r = q->request;
	api_begin(&q->writer);
	json_write_open_object(q->writer);
	if (run_list(tx, &r->arena, &q->list, wall_ms(), &r->controller->limits, q->writer, err) <
		0)
		return -1;
	json_write_close_object(q->writer);
	return 0;
}

static int check_state(const char *state, struct error *err)
{
	static const char *const states[] = {"NotStarted", "Starting", "Preparing", "Running",
		"Finalizing", "CancelRequested", "NotResponding", "Completed", "Failed",
		"Canceled"};
	for (size_t i = 0; state && i < array_size(states); i++)
		if (streq(state, states[i]))
			return 0;
	return state ? error_set(err, ERROR_INVALID, "state: there is none of this name") : 0;
}

static int list(struct request *r, struct error *err)
{
	struct asking q = {.request = r};
	q.list = (struct run_list){.owner = r->who.role == ROLE_ADMIN ? NULL : r->who.owner,
		.experiment = request_query(r, "experiment"),
		.state = request_query(r, "state"),
		.after = request_query(r, "after"),
		.limit = PAGE};
	if (check_state(q.list.state, err) < 0 ||
		request_query_number(r, "limit", 1, PAGE_MAX, &q.list.limit, err) < 0)
		return -1;
	int rc = database_read(r->controller->db, list_in, &q, err);
	return api_reply(r, 200, q.writer, rc, err);
}

static int get_in(struct database_tx *tx, void *data, struct error *err)
{
	struct asking *q = data;
	struct request *r = q->request;
	const char *run = request_parameter(r, "run");
	api_begin(&q->writer);
	return access_run(tx, &r->arena, &r->who, run, ACCESS_READ, err) < 0
		       ? -1
		       : show(tx, q, run, err);
}

static int get(struct request *r, struct error *err)
{
	struct asking q = {.request = r};
	int rc = database_read(r->controller->db, get_in, &q, err);
	return api_reply(r, 200, q.writer, rc, err);
}

// ---- changing

static int cancel_in(struct database_tx *tx, void *data, struct error *err)
{
	struct asking *q = data;
	struct request *r = q->request;
	const char *run = request_parameter(r, "run");
	api_begin(&q->writer);
	return access_run(tx, &r->arena, &r->who, run, ACCESS_MANAGE, err) < 0 ||
			       run_cancel(tx, &r->arena, &r->controller->limits, run, r->who.owner,
				       wall_ms(), err) < 0
		       ? -1
		       : show(tx, q, run, err);
}

static int cancel(struct request *r, struct error *err)
{
	struct asking q = {.request = r};
	int rc = database_write(r->controller->db, cancel_in, &q, err);
	return api_reply(r, 200, q.writer, rc, err);
}

static int remove_in(struct database_tx *tx, void *data, struct error *err)
{
	struct request *r = data;
	const char *run = request_parameter(r, "run");
	if (access_run(tx, &r->arena, &r->who, run, ACCESS_MANAGE, err) < 0)
		return -1;
	int rc = run_remove(tx, &r->arena, run, err);
	if (rc > 0)
		r->code = "conflict";
	return rc ? -1 : 0;
}

static int remove_run(struct request *r, struct error *err)
{
	return database_write(r->controller->db, remove_in, r, err) < 0 ? -1
									: reply_empty(r, 204, err);
}

// ---- experiments

static int experiments_in(struct database_tx *tx, void *data, struct error *err)
{
	struct asking *q = data;
	struct request *r = q->request;
	struct database_rows rows;
	api_begin(&q->writer);
	if (database_run(tx, &r->arena,
		    "SELECT experiment, COUNT(*), MAX(created) FROM run WHERE (?1 = '' OR owner = "
		    "?1) "
		    "GROUP BY experiment ORDER BY experiment LIMIT 10000",
		    database_values(database_text(q->list.owner ? q->list.owner : "")), &rows,
		    err) < 0)
		return -1;
	json_write_open_object(q->writer);
	json_write_key(q->writer, "experiments");
	json_write_open_array(q->writer);
	for (size_t i = 0; i < rows.count; i++) {
		json_write_open_object(q->writer);
		json_write_member(q->writer, "name", database_get_text(&rows, i, 0));
		json_write_member_int(q->writer, "runs", database_get_integer(&rows, i, 1, 0));
		json_write_member_int(q->writer, "last", database_get_integer(&rows, i, 2, 0));
		json_write_close_object(q->writer);
	}
	json_write_close_array(q->writer);
	json_write_close_object(q->writer);
	return 0;
}

static int experiments(struct request *r, struct error *err)
{
	struct asking q = {.request = r};
	q.list.owner = r->who.role == ROLE_ADMIN ? NULL : r->who.owner;
	int rc = database_read(r->controller->db, experiments_in, &q, err);
	return api_reply(r, 200, q.writer, rc, err);
}

const struct route api_runs[] = {
	{.method = "POST",
		.pattern = "/v1/runs",
		.roles = USERS,
		.body_max = 4 * 1024 * 1024,
		.handle = submit},
	{.method = "GET", .pattern = "/v1/runs", .roles = USERS, .handle = list},
	{.method = "GET",
		.pattern = "/v1/runs/{run}",
		.roles = USERS | ROLE_RUN | ROLE_METRICS | ROLE_NODE,
		.handle = get},
	{.method = "POST",
		.pattern = "/v1/runs/{run}/cancel",
		.roles = USERS,
		.body_max = 1024,
		.handle = cancel},
	{.method = "DELETE", .pattern = "/v1/runs/{run}", .roles = USERS, .handle = remove_run},
	{.method = "GET", .pattern = "/v1/experiments", .roles = USERS, .handle = experiments},
	{0},
};
