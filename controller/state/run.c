// SPDX-License-Identifier: Apache-2.0
#include "controller/state/run.h"

#include "base/text.h"
#include "controller/state/file.h"
#include "controller/state/schedule.h"

#include <stdio.h>
#include <sys/random.h>

enum { KEY_MAX = 200 };

// ---- submitting

static int find_by_key(struct database_tx *tx, struct arena *a, const struct run_submission *s,
	char id[RUN_ID_SIZE], struct error *err)
{
	struct database_rows rows;
	if (!s->key)
		return 0;
	if (strlen(s->key) > KEY_MAX)
		return error_set(err, ERROR_INVALID, "Idempotency-Key: over %d bytes", KEY_MAX);
	if (database_run(tx, a, "SELECT id FROM run WHERE owner = ?1 AND idempotency = ?2",
		    database_values(database_text(s->owner), database_text(s->key)), &rows,
		    err) < 0)
		return -1;
	if (rows.count)
		snprintf(id, RUN_ID_SIZE, "%s", database_get_text(&rows, 0, 0));
	return rows.count != 0;
}

static int check_queue(struct database_tx *tx, struct arena *a,
	const struct controller_limits *limits, const char *owner, struct error *err)
{
	struct database_rows rows;
	if (!limits->queue_max)
		return 0;
	if (database_run(tx, a,
		    "SELECT COUNT(*) FROM run WHERE state = 'NotStarted' AND owner = ?1",
		    database_values(database_text(owner)), &rows, err) < 0)
		return -1;
	if ((uint64_t)database_get_integer(&rows, 0, 0, 0) >= limits->queue_max)
		return error_set(err, ERROR_LIMIT, "%llu runs of %s wait already",
			(unsigned long long)limits->queue_max, owner);
	return 0;
}

static int use_snapshot(
	struct database_tx *tx, struct arena *a, const struct run_submission *s, struct error *err)
{
	if (!s->snapshot)
		return 0;
	int64_t n = database_run(tx, a, "UPDATE snapshot SET used = ?2 WHERE sha256 = ?1",
		database_values(database_text(s->snapshot), database_integer(s->now)), NULL, err);
	if (n == 0)
		return error_set(err, ERROR_NOT_FOUND, "there is no snapshot %.64s; send it first",
			s->snapshot);
	return n < 0 ? -1 : 0;
}

const char *run_json_text(struct arena *a, const struct json *tree)
{
	cleanup_buffer struct buffer b = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	struct error ignored;
	if (!tree)
		return NULL;
	json_write_tree(w, tree);
	return json_writer_finish(w, &b, &ignored) < 0 ? NULL : arena_strndup(a, b.data, b.size);
}

static int insert(struct database_tx *tx, struct arena *a, const struct run_submission *s,
	const struct job *job, const char *id, struct error *err)
{
	return database_do(tx, a,
		"INSERT INTO run (id, experiment, owner, state, created, snapshot, "
		"properties, job, secrets, idempotency, cpus, memory, gpus, hint, image) "
		"VALUES (?1, ?2, ?3, 'NotStarted', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, "
		"?13, ?14)",
		database_values(database_text(id), database_text(job->experiment),
			database_text(s->owner), database_integer(s->now),
			database_text(s->snapshot), database_text(run_json_text(a, s->properties)),
			database_text(run_json_text(a, s->job)),
			database_text(run_json_text(a, s->secrets)), database_text(s->key),
			database_real(job->cpus), database_integer((int64_t)job->memory),
			database_integer((int64_t)job->gpus), database_text(job->hint),
			database_text(job->image)),
		err);
}

int run_submit(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const struct run_submission *s, char id[RUN_ID_SIZE], bool *made, struct error *err)
{
	struct job job;
	unsigned random;
	int found = find_by_key(tx, a, s, id, err);
	*made = found == 0;
	if (found)
		return found < 0 ? -1 : 0;
	if (job_read(a, s->job, s->snapshot, &job, err) < 0 ||
		check_queue(tx, a, limits, s->owner, err) < 0 || use_snapshot(tx, a, s, err) < 0)
		return -1;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return error_set_errno(err, errno, "getrandom");
	snprintf(id, RUN_ID_SIZE, "%s_%lld_%08x", job.experiment, (long long)(s->now / 1000),
		random);
	if (insert(tx, a, s, &job, id, err) < 0)
		return -1;
	database_notify(tx, "queue");
	return run_event_state(tx, a, limits, id, s->now, err);
}

// ---- the end

int run_end(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *id, const char *result, const char *cause, int64_t now, struct error *err)
{
	if (database_do(tx, a,
		    "UPDATE run SET state = ?2, outcome = NULL, cause = ?3, ended = ?4, "
		    "secrets = NULL, phase = NULL, progress = NULL WHERE id = ?1",
		    database_values(database_text(id), database_text(result), database_text(cause),
			    database_integer(now)),
		    err) < 0 ||
		run_event_state(tx, a, limits, id, now, err) < 0)
		return -1;
	database_notify(tx, arena_printf(a, "file/%s", id));
	return run_event(tx, a, id, "end", "{}", now, err);
}

int run_requeue(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *id, int64_t now, struct error *err)
{
	static const char canceled[] = "{\"class\":\"user\",\"code\":\"Canceled\",\"message\":"
				       "\"canceled while no node had it\"}";
	struct database_rows rows;
	if (database_run(tx, a,
		    "UPDATE run SET state = 'NotStarted', node = NULL, phase = NULL, progress = "
		    "NULL WHERE id = ?1 RETURNING cancel_requested",
		    database_values(database_text(id)), &rows, err) < 0)
		return -1;
	if (rows.count && database_get_integer(&rows, 0, 0, 0))
		return run_end(tx, a, limits, id, "Canceled", canceled, now, err);
	return run_event_state(tx, a, limits, id, now, err);
}

// A start is told with tokens, so an attempt that has none was not told of.
static int was_told(struct database_tx *tx, struct arena *a, const char *id, int64_t attempt,
	bool *told, struct error *err)
{
	struct database_rows rows;
	if (database_run(tx, a, "SELECT COUNT(*) FROM token WHERE run = ?1 AND attempt = ?2",
		    database_values(database_text(id), database_integer(attempt)), &rows, err) < 0)
		return -1;
	*told = database_get_integer(&rows, 0, 0, 0) > 0;
	return 0;
}

int run_cancel_unstarted(struct database_tx *tx, struct arena *a,
	const struct controller_limits *limits, const char *id, int64_t attempt, int64_t now,
	struct error *err)
{
	static const char cause[] = "{\"class\":\"user\",\"code\":\"Canceled\",\"message\":"
				    "\"canceled before it started\"}";
	return schedule_release(tx, a, id, attempt, "ended", now, err) < 0
		       ? -1
		       : run_end(tx, a, limits, id, "Canceled", cause, now, err);
}

int run_cancel(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *id, const char *by, int64_t now, struct error *err)
{
	struct database_rows rows;
	bool told = false;
	if (database_run(tx, a,
		    "UPDATE run SET cancel_requested = ?2, canceled_by = ?3 WHERE id = ?1 AND "
		    "ended IS NULL AND cancel_requested IS NULL RETURNING state, node, attempt",
		    database_values(database_text(id), database_integer(now), database_text(by)),
		    &rows, err) < 0)
		return -1;
	if (!rows.count)
		return 0;
	bool queued = streq(database_get_text(&rows, 0, 0), "NotStarted");
	const char *node = database_get_text(&rows, 0, 1);
	int64_t attempt = database_get_integer(&rows, 0, 2, 0);
	if (!queued && was_told(tx, a, id, attempt, &told, err) < 0)
		return -1;
	if (!told)
		return run_cancel_unstarted(tx, a, limits, id, attempt, now, err);
	database_notify(tx, arena_printf(a, "node/%s", node));
	return run_event_state(tx, a, limits, id, now, err);
}

int run_remove(struct database_tx *tx, struct arena *a, const char *id, struct error *err)
{
	static const char *const tables[] = {"attempt", "event", "file", "metric", "token"};
	struct database_rows rows;
	if (database_run(tx, a,
		    "SELECT ended, (SELECT COUNT(*) FROM model WHERE run = ?1) FROM run WHERE id = "
		    "?1",
		    database_values(database_text(id)), &rows, err) < 0)
		return -1;
	if (!rows.count)
		return error_set(err, ERROR_NOT_FOUND, "there is no run %s", id);
	if (!database_get_integer(&rows, 0, 0, 0) || database_get_integer(&rows, 0, 1, 0)) {
		error_set(err, ERROR_INVALID, "run %s has %s", id,
			database_get_integer(&rows, 0, 0, 0) ? "models" : "not ended");
		return 1;
	}
	if (file_remove_all(tx, a, id, err) < 0)
		return -1;
	for (size_t i = 0; i < array_size(tables); i++)
		if (database_do(tx, a, arena_printf(a, "DELETE FROM %s WHERE run = ?1", tables[i]),
			    database_values(database_text(id)), err) < 0)
			return -1;
	return database_do(
		tx, a, "DELETE FROM run WHERE id = ?1", database_values(database_text(id)), err);
}

// ---- events

// Phases, progress and metrics may be many: those of long ago make room. Numbers have no gaps but
// those, so it is one row at a time.
static int forget_event(
	struct database_tx *tx, struct arena *a, const char *id, int64_t number, struct error *err)
{
	return database_do(tx, a,
		"DELETE FROM event WHERE run = ?1 AND number = ?2 AND kind <> 'state' AND kind <> "
		"'end'",
		database_values(database_text(id), database_integer(number - RUN_EVENTS_KEPT)),
		err);
}

int run_event(struct database_tx *tx, struct arena *a, const char *id, const char *kind,
	const char *data, int64_t now, struct error *err)
{
	struct database_rows rows;
	if (database_run(tx, a, "UPDATE run SET events = events + 1 WHERE id = ?1 RETURNING events",
		    database_values(database_text(id)), &rows, err) < 0)
		return -1;
	int64_t number = database_get_integer(&rows, 0, 0, 0);
	if (rows.count &&
		(database_do(tx, a,
			 "INSERT INTO event (run, number, kind, data, time) VALUES (?1, ?2, ?3, "
			 "?4, ?5)",
			 database_values(database_text(id), database_integer(number),
				 database_text(kind), database_text(data), database_integer(now)),
			 err) < 0 ||
			forget_event(tx, a, id, number, err) < 0))
		return -1;
	database_notify(tx, arena_printf(a, "run/%s", id));
	return 0;
}

int run_event_state(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *id, int64_t now, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	if (run_write(tx, a, id, false, now, limits, w, err) < 0 ||
		json_writer_finish(w, &b, err) < 0)
		return -1;
	return run_event(tx, a, id, "state", b.data, now, err);
}
