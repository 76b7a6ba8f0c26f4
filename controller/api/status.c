// SPDX-License-Identifier: Apache-2.0
//
// For those who watch the controller. Nobody is asked for a token here, so there are numbers only.
#include "base/time.h"
#include "controller/api/api.h"

static int healthz(struct request *r, struct error *err)
{
	if (database_ping(r->controller->db, err) < 0 ||
		blobs_ping(r->controller->blobs, err) < 0) {
		err->kind = ERROR_UNAVAILABLE;
		return -1;
	}
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "status", "ok");
	json_write_close_object(w);
	return reply_json(r, 200, w, err);
}

struct numbers {
	int64_t queue, nodes, silent;
	struct arena *arena;
	struct database_rows attempts; // state, count
};

// All of these are answered by indexes of what is going on; runs that have ended are not counted.
static int read_numbers(struct database_tx *tx, void *data, struct error *err)
{
	struct numbers *n = data;
	struct database_rows rows;
	if (database_run(tx, n->arena, "SELECT COUNT(*) FROM run WHERE state = 'NotStarted'",
		    database_no_values, &rows, err) < 0)
		return -1;
	n->queue = database_get_integer(&rows, 0, 0, 0);
	enum { SILENT_MS = 60 * 1000 };
	if (database_run(tx, n->arena,
		    "SELECT COUNT(*), SUM(CASE WHEN last_seen < ?1 THEN 1 ELSE 0 END) FROM node"
		    " WHERE removed IS NULL",
		    database_values(database_integer(wall_ms() - SILENT_MS)), &rows, err) < 0)
		return -1;
	n->nodes = database_get_integer(&rows, 0, 0, 0);
	n->silent = database_get_integer(&rows, 0, 1, 0);
	return database_run(tx, n->arena,
		       "SELECT state, COUNT(*) FROM attempt WHERE open = 1 GROUP BY state",
		       database_no_values, &n->attempts, err) < 0
		       ? -1
		       : 0;
}

static int metrics(struct request *r, struct error *err)
{
	struct numbers n = {.arena = &r->arena};
	cleanup_buffer struct buffer b = {0};
	if (database_read(r->controller->db, read_numbers, &n, err) < 0)
		return -1;
	request_metrics(r, &b);
	buffer_printf(&b,
		"# TYPE stoker_runs_queued gauge\nstoker_runs_queued %lld\n"
		"# TYPE stoker_nodes gauge\nstoker_nodes %lld\n"
		"# TYPE stoker_nodes_silent gauge\nstoker_nodes_silent %lld\n"
		"# TYPE stoker_attempts_open gauge\n",
		(long long)n.queue, (long long)n.nodes, (long long)n.silent);
	for (size_t i = 0; i < n.attempts.count; i++)
		buffer_printf(&b, "stoker_attempts_open{state=\"%s\"} %lld\n",
			database_get_text(&n.attempts, i, 0),
			(long long)database_get_integer(&n.attempts, i, 1, 0));
	return reply_text(r, 200, &b, "text/plain; version=0.0.4", err);
}

const struct route api_status[] = {
	{.method = "GET", .pattern = "/healthz", .roles = ROLE_NONE, .handle = healthz},
	{.method = "GET", .pattern = "/metrics", .roles = ROLE_NONE, .handle = metrics},
	{0},
};
