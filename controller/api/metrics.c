// SPDX-License-Identifier: Apache-2.0
#include "controller/api/api.h"

#include "base/json_decode.h"
#include "base/time.h"
#include "controller/state/run.h"

#include <string.h>

enum { METRICS_MAX = 1000, NAME_MAX_BYTES = 255, READ_MAX = 100000, EVENT_MAX = 100 };

struct metric {
	const char *name;
	double value;
	int64_t step, time;
};
struct metrics {
	struct request *request;
	struct metric *items;
	size_t count;
};

static const struct json_field metric_fields[] = {
	{"name", json_decode_string, offsetof(struct metric, name), JSON_REQUIRED},
	{"value", json_decode_double, offsetof(struct metric, value), JSON_REQUIRED},
	{"step", json_decode_int64, offsetof(struct metric, step), JSON_NULLABLE},
	{"time", json_decode_int64, offsetof(struct metric, time), 0},
	{0},
};

static int decode_metric(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct metric *m = target;
	*m = (struct metric){.step = -1, .time = wall_ms()};
	if (json_decode_object(d, value, metric_fields, true, m, err) < 0)
		return -1;
	size_t n = strlen(m->name);
	if (n == 0 || n > NAME_MAX_BYTES)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"name: must have 1 to %d bytes", NAME_MAX_BYTES);
	return 0;
}

static int decode_metrics(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct metrics *m = target;
	return json_decode_array(d, value, decode_metric, sizeof(struct metric), METRICS_MAX,
		(void **)&m->items, &m->count, err);
}

static int store_one(struct database_tx *tx, struct arena *a, const char *run,
	const struct metric *m, struct error *err)
{
	return database_do(tx, a,
		"INSERT INTO metric (run, name, number, value, step, time) SELECT ?1, ?2, "
		"COALESCE(MAX(number), 0) + 1, ?3, ?4, ?5 FROM metric "
		"WHERE run = ?1 AND name = ?2",
		database_values(database_text(run), database_text(m->name), database_real(m->value),
			m->step < 0 ? database_text(NULL) : database_integer(m->step),
			database_integer(m->time)),
		err);
}

static void write_metric(struct json_writer *w, const struct metric *m)
{
	json_write_open_object(w);
	json_write_member(w, "name", m->name);
	json_write_key(w, "value");
	json_write_double(w, m->value);
	if (m->step >= 0)
		json_write_member_int(w, "step", m->step);
	json_write_member_int(w, "time", m->time);
	json_write_close_object(w);
}

// Those who follow the run. First of all, because it locks the run: of two requests at once with
// the same names one waits, instead of being refused at the end.
static int tell(struct database_tx *tx, const struct metrics *m, size_t from, struct error *err)
{
	struct request *r = m->request;
	cleanup_buffer struct buffer b = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_key(w, "metrics");
	json_write_open_array(w);
	for (size_t i = from; i < m->count && i < from + EVENT_MAX; i++)
		write_metric(w, &m->items[i]);
	json_write_close_array(w);
	json_write_close_object(w);
	if (json_writer_finish(w, &b, err) < 0)
		return -1;
	return run_event(
		tx, &r->arena, request_parameter(r, "run"), "metric", b.data, wall_ms(), err);
}

static int store(struct database_tx *tx, void *data, struct error *err)
{
	const struct metrics *m = data;
	struct request *r = m->request;
	const char *run = request_parameter(r, "run");
	if (access_run(tx, &r->arena, &r->who, run, ACCESS_METRICS, err) < 0)
		return -1;
	for (size_t i = 0; i < m->count; i += EVENT_MAX)
		if (tell(tx, m, i, err) < 0)
			return -1;
	for (size_t i = 0; i < m->count; i++)
		if (store_one(tx, &r->arena, run, &m->items[i], err) < 0)
			return -1;
	return 0;
}

static int post(struct request *r, struct error *err)
{
	static const struct json_field fields[] = {
		{"metrics", decode_metrics, 0, JSON_REQUIRED},
		{0},
	};
	struct metrics m = {.request = r};
	struct json_decoder d = {.arena = &r->arena, .document = "body"};
	const struct json *document;
	if (request_json(r, &document, err) < 0 ||
		json_decode_object(&d, document, fields, true, &m, err) < 0 ||
		database_write(r->controller->db, store, &m, err) < 0)
		return -1;
	return reply_empty(r, 204, err);
}

// ---- reading

struct reading {
	struct request *request;
	struct database_rows rows;
};

static int read_all(struct database_tx *tx, void *data, struct error *err)
{
	struct reading *q = data;
	struct request *r = q->request;
	const char *run = request_parameter(r, "run"), *name = request_query(r, "name");
	if (access_run(tx, &r->arena, &r->who, run, ACCESS_READ, err) < 0)
		return -1;
	return database_run(tx, &r->arena,
		       "SELECT name, value, step, time FROM metric WHERE run = ?1 AND "
		       "(?2 = '' OR name = ?2) ORDER BY name, number LIMIT ?3",
		       database_values(database_text(run), database_text(name ? name : ""),
			       database_integer(READ_MAX)),
		       &q->rows, err) < 0
		       ? -1
		       : 0;
}

static int get(struct request *r, struct error *err)
{
	struct reading q = {.request = r};
	if (database_read(r->controller->db, read_all, &q, err) < 0)
		return -1;
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_key(w, "metrics");
	json_write_open_array(w);
	for (size_t i = 0; i < q.rows.count; i++)
		write_metric(w, &(struct metric){
					.name = database_get_text(&q.rows, i, 0),
					.value = database_get_real(&q.rows, i, 1),
					.step = database_get_integer(&q.rows, i, 2, -1),
					.time = database_get_integer(&q.rows, i, 3, 0),
				});
	json_write_close_array(w);
	json_write_close_object(w);
	return reply_json(r, 200, w, err);
}

const struct route api_metrics[] = {
	{.method = "GET",
		.pattern = "/v1/runs/{run}/metrics",
		.roles = ROLE_ADMIN | ROLE_USER | ROLE_RUN | ROLE_METRICS,
		.handle = get},
	{.method = "POST",
		.pattern = "/v1/runs/{run}/metrics",
		.roles = ROLE_ADMIN | ROLE_USER | ROLE_RUN | ROLE_METRICS,
		.body_max = 1024 * 1024,
		.handle = post},
	{0},
};
