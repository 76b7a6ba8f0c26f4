// SPDX-License-Identifier: Apache-2.0
//
// Runs as JSON, as docs/protocol.md has them.
#include "controller/state/run.h"

#include "base/text.h"
#include "controller/state/waiting.h"

// As users see it. ?1: nodes not heard since then may be gone; that is not decided before the lease
// has run out.
static const char shown[] =
	"CASE WHEN r.ended IS NOT NULL OR r.state = 'NotStarted' THEN r.state "
	"WHEN n.last_seen > 0 AND n.last_seen < ?1 THEN 'NotResponding' "
	"WHEN r.cancel_requested IS NOT NULL THEN 'CancelRequested' ELSE r.state END";
static const char columns[] =
	"r.id, r.experiment, r.owner, r.phase, r.progress, r.cause, r.upload, r.created, "
	"r.started, r.ended, r.attempt, r.cancel_requested, r.snapshot, r.properties, r.job, "
	"n.name";
enum {
	ID,
	EXPERIMENT,
	OWNER,
	PHASE,
	PROGRESS,
	CAUSE,
	UPLOAD,
	CREATED,
	STARTED,
	ENDED,
	ATTEMPT,
	CANCEL,
	SNAPSHOT,
	PROPERTIES,
	JOB,
	NODE_NAME,
	STATE
};

void run_write_document(struct json_writer *w, struct arena *a, const char *key, const char *text)
{
	struct error ignored;
	const struct json *tree =
		text ? json_parse(a, text, strlen(text), key, NULL, &ignored) : NULL;
	json_write_key(w, key);
	if (tree)
		json_write_tree(w, tree);
	else
		json_write_null(w);
}

static void write_time(struct json_writer *w, const char *key, const struct database_rows *rows,
	size_t i, size_t column)
{
	int64_t ms = database_get_integer(rows, i, column, 0);
	if (ms)
		json_write_member_int(w, key, ms);
	else {
		json_write_key(w, key);
		json_write_null(w);
	}
}

static void write_short(
	struct json_writer *w, struct arena *a, const struct database_rows *rows, size_t i)
{
	json_write_member(w, "id", database_get_text(rows, i, ID));
	json_write_member(w, "experiment", database_get_text(rows, i, EXPERIMENT));
	json_write_member(w, "user", database_get_text(rows, i, OWNER));
	json_write_member(w, "state", database_get_text(rows, i, STATE));
	json_write_member(w, "phase", database_get_text(rows, i, PHASE));
	run_write_document(w, a, "progress", database_get_text(rows, i, PROGRESS));
	run_write_document(w, a, "cause", database_get_text(rows, i, CAUSE));
	run_write_document(w, a, "upload", database_get_text(rows, i, UPLOAD));
	write_time(w, "created", rows, i, CREATED);
	write_time(w, "started", rows, i, STARTED);
	write_time(w, "ended", rows, i, ENDED);
	json_write_member_int(w, "attempt", database_get_integer(rows, i, ATTEMPT, 0));
	json_write_member(w, "node", database_get_text(rows, i, NODE_NAME));
	json_write_member_bool(
		w, "cancel_requested", database_get_integer(rows, i, CANCEL, 0) != 0);
	json_write_member(w, "snapshot", database_get_text(rows, i, SNAPSHOT));
}

static int write_attempts(struct database_tx *tx, struct arena *a, const char *id,
	struct json_writer *w, struct error *err)
{
	struct database_rows rows;
	if (database_run(tx, a,
		    "SELECT a.attempt, n.name, a.state, a.cause, a.created, a.started, a.ended "
		    "FROM attempt a LEFT JOIN node n ON n.id = a.node WHERE a.run = ?1 "
		    "ORDER BY a.attempt LIMIT 1000",
		    database_values(database_text(id)), &rows, err) < 0)
		return -1;
	json_write_key(w, "attempts");
	json_write_open_array(w);
	for (size_t i = 0; i < rows.count; i++) {
		json_write_open_object(w);
		json_write_member_int(w, "attempt", database_get_integer(&rows, i, 0, 0));
		json_write_member(w, "node", database_get_text(&rows, i, 1));
		json_write_member(w, "state", database_get_text(&rows, i, 2));
		run_write_document(w, a, "cause", database_get_text(&rows, i, 3));
		write_time(w, "created", &rows, i, 4);
		write_time(w, "started", &rows, i, 5);
		write_time(w, "ended", &rows, i, 6);
		json_write_close_object(w);
	}
	json_write_close_array(w);
	return 0;
}

int run_write(struct database_tx *tx, struct arena *a, const char *id, bool full, int64_t now,
	const struct controller_limits *limits, struct json_writer *w, struct error *err)
{
	struct database_rows rows;
	const char *sql = arena_printf(a,
		"SELECT %s, %s FROM run r LEFT JOIN node n ON n.id = r.node WHERE r.id = ?2",
		columns, shown);
	if (database_run(tx, a, sql,
		    database_values(database_integer(now - limits->lease_ms), database_text(id)),
		    &rows, err) < 0)
		return -1;
	if (!rows.count)
		return error_set(err, ERROR_NOT_FOUND, "there is no run %s", id);
	json_write_open_object(w);
	write_short(w, a, &rows, 0);
	if (full) {
		const char *reason;
		if (waiting_reason(tx, a, id, now, limits, &reason, err) < 0)
			return -1;
		json_write_member(w, "reason", reason);
		run_write_document(w, a, "properties", database_get_text(&rows, 0, PROPERTIES));
		if (write_attempts(tx, a, id, w, err) < 0)
			return -1;
		run_write_document(w, a, "job", database_get_text(&rows, 0, JOB));
	}
	json_write_close_object(w);
	return 0;
}

// `next` is the last row's time and id: runs that come meanwhile are before it and do not shift the
// page.
static int parse_after(const char *after, int64_t *created, const char **id, struct error *err)
{
	const char *colon = strchr(after, ':');
	uint64_t ms;
	if (!colon || !parse_u64_n(after, (size_t)(colon - after), &ms) || ms > INT64_MAX)
		return error_set(err, ERROR_INVALID, "after: is not the `next` of a page");
	*created = (int64_t)ms;
	*id = colon + 1;
	return 0;
}

int run_list(struct database_tx *tx, struct arena *a, const struct run_list *l, int64_t now,
	const struct controller_limits *limits, struct json_writer *w, struct error *err)
{
	struct database_rows rows;
	int64_t created = INT64_MAX;
	const char *id = "";
	if (l->after && parse_after(l->after, &created, &id, err) < 0)
		return -1;
	const char *sql = arena_printf(a,
		"SELECT %s, %s FROM run r LEFT JOIN node n ON n.id = r.node WHERE "
		"(r.created < ?2 OR (r.created = ?2 AND r.id < ?3)) AND (?4 = '' OR r.owner = ?4) "
		"AND (?5 = '' OR r.experiment = ?5) AND (?6 = '' OR %s = ?6) "
		"ORDER BY r.created DESC, r.id DESC LIMIT ?7",
		columns, shown, shown);
	if (database_run(tx, a, sql,
		    database_values(database_integer(now - limits->lease_ms),
			    database_integer(created), database_text(id),
			    database_text(l->owner ? l->owner : ""),
			    database_text(l->experiment ? l->experiment : ""),
			    database_text(l->state ? l->state : ""),
			    database_integer((int64_t)l->limit)),
		    &rows, err) < 0)
		return -1;
	json_write_key(w, "runs");
	json_write_open_array(w);
	for (size_t i = 0; i < rows.count; i++) {
		json_write_open_object(w);
		write_short(w, a, &rows, i);
		json_write_close_object(w);
	}
	json_write_close_array(w);
	size_t last = rows.count ? rows.count - 1 : 0;
	json_write_member(w, "next",
		rows.count == l->limit
			? arena_printf(a, "%lld:%s",
				  (long long)database_get_integer(&rows, last, CREATED, 0),
				  database_get_text(&rows, last, ID))
			: NULL);
	return 0;
}
