// SPDX-License-Identifier: Apache-2.0
#include "controller/state/housekeeping.h"

#include "base/text.h"
#include "controller/state/file.h"
#include "controller/state/run.h"
#include "controller/state/schedule.h"

enum {
	LOST_MAX = 100,
	GAP_MIN_MS = 2500,
	GAP_MAX_MS = 10 * 1000,
	GARBAGE_MAX = 200,
	GARBAGE_MS = 60 * 1000,
	SNAPSHOT_MS = 24 * 3600 * 1000
};

struct chores {
	struct controller *controller;
	int64_t now;
	struct arena arena;
	struct database_rows garbage;
	bool any; // lease that has run out, or run that waits
};

// ---- leases

static int renew_all(struct database_tx *tx, void *data, struct error *err)
{
	const struct chores *k = data;
	cleanup_arena struct arena a = {0};
	return database_do(tx, &a,
		"UPDATE attempt SET lease_until = ?1 WHERE open = 1 AND lease_until > 0",
		database_values(database_integer(k->now + k->controller->limits.lease_ms)), err);
}

int housekeeping_begin(struct controller *c, int64_t now, struct error *err)
{
	struct chores k = {.controller = c, .now = now};
	if (database_write(c->db, renew_all, &k, err) < 0)
		return -1;
	c->housekept = now;
	return 0;
}

static const char lost_node[] = "{\"class\":\"infrastructure\",\"code\":\"NodeLost\",\"message\":"
				"\"its node was not heard for longer than its lease\"}";

// What the lost attempt printed stays, beside what the next one will.
static int keep_logs(struct database_tx *tx, struct arena *a, const char *run, int64_t attempt,
	struct error *err)
{
	static const char *const tops[] = {"user_logs", "logs", "system_logs"};
	for (size_t i = 0; i < array_size(tops); i++) {
		const char *to = arena_printf(a, "attempts/%lld/%s", (long long)attempt, tops[i]);
		if (file_move_top(tx, a, run, tops[i], to, err) < 0) {
			if (err->kind != ERROR_NOT_FOUND)
				return -1;
			error_clear(err);
		}
	}
	database_notify(tx, arena_printf(a, "file/%s", run)); // of those who follow them
	return 0;
}

static int give_back(struct database_tx *tx, struct arena *a, const struct chores *k,
	const char *run, int64_t attempt, const struct database_rows *state, struct error *err)
{
	const struct controller_limits *limits = &k->controller->limits;
	int64_t losses = database_get_integer(state, 0, 0, 0);
	static const char lost[] =
		"{\"class\":\"infrastructure\",\"code\":\"NodeLost\",\"message\":"
		"\"its nodes were lost too often\"}";
	static const char canceled[] = "{\"class\":\"user\",\"code\":\"Canceled\",\"message\":"
				       "\"canceled while its node was "
				       "silent\"}";
	if (database_get_integer(state, 0, 1, 0))
		return run_end(tx, a, limits, run, "Canceled", canceled, k->now, err);
	if ((uint64_t)losses > limits->node_losses)
		return run_end(tx, a, limits, run, "Failed", lost, k->now, err);
	if (keep_logs(tx, a, run, attempt, err) < 0)
		return -1;
	return run_requeue(tx, a, limits, run, k->now, err);
}

static int lose(struct database_tx *tx, struct arena *a, const struct chores *k, const char *run,
	int64_t attempt, struct error *err)
{
	struct database_rows state;
	if (schedule_release(tx, a, run, attempt, "lost", k->now, err) < 0 ||
		database_do(tx, a, "UPDATE attempt SET cause = ?3 WHERE run = ?1 AND attempt = ?2",
			database_values(database_text(run), database_integer(attempt),
				database_text(lost_node)),
			err) < 0 ||
		database_run(tx, a,
			"UPDATE run SET losses = losses + 1, manifest = NULL WHERE id = ?1 "
			"RETURNING losses, cancel_requested",
			database_values(database_text(run)), &state, err) < 0)
		return -1;
	return give_back(tx, a, k, run, attempt, &state, err);
}

static int expire(struct database_tx *tx, void *data, struct error *err)
{
	const struct chores *k = data;
	cleanup_arena struct arena a = {0};
	struct database_rows rows;
	if (database_run(tx, &a,
		    "SELECT run, attempt FROM attempt WHERE open = 1 AND lease_until < ?1 "
		    "ORDER BY lease_until LIMIT ?2",
		    database_values(database_integer(k->now), database_integer(LOST_MAX)), &rows,
		    err) < 0)
		return -1;
	for (size_t i = 0; i < rows.count; i++)
		if (lose(tx, &a, k, database_get_text(&rows, i, 0),
			    database_get_integer(&rows, i, 1, 0), err) < 0)
			return -1;
	return schedule(tx, &a, k->controller, k->now, err);
}

// Is there anything to do? Mostly not, and then nothing is written.
static int look(struct database_tx *tx, void *data, struct error *err)
{
	struct chores *k = data;
	struct database_rows rows;
	if (database_run(tx, &k->arena,
		    "SELECT (SELECT COUNT(*) FROM attempt WHERE open = 1 AND lease_until < ?1) + "
		    "(SELECT COUNT(*) FROM run WHERE state = 'NotStarted')",
		    database_values(database_integer(k->now)), &rows, err) < 0)
		return -1;
	k->any = database_get_integer(&rows, 0, 0, 0) > 0;
	return 0;
}

// ---- what nothing needs

static int find_garbage(struct database_tx *tx, void *data, struct error *err)
{
	struct chores *k = data;
	// Followers that read one still get a minute.
	return database_run(tx, &k->arena,
		       "SELECT blob FROM garbage WHERE since < ?1 ORDER BY since LIMIT ?2",
		       database_values(database_integer(k->now - GARBAGE_MS),
			       database_integer(GARBAGE_MAX)),
		       &k->garbage, err) < 0
		       ? -1
		       : 0;
}

static int forget_garbage(struct database_tx *tx, void *data, struct error *err)
{
	const struct chores *k = data;
	cleanup_arena struct arena a = {0};
	for (size_t i = 0; i < k->garbage.count; i++)
		if (database_do(tx, &a, "DELETE FROM garbage WHERE blob = ?1",
			    database_values(database_text(database_get_text(&k->garbage, i, 0))),
			    err) < 0)
			return -1;
	return 0;
}

static int remove_garbage(struct chores *k, struct error *err)
{
	struct controller *c = k->controller;
	if (database_read(c->db, find_garbage, k, err) < 0 || !k->garbage.count)
		return k->garbage.count ? -1 : 0;
	for (size_t i = 0; i < k->garbage.count; i++)
		if (blob_remove(c->blobs, database_get_text(&k->garbage, i, 0), err) < 0)
			return -1;
	return database_write(c->db, forget_garbage, k, err);
}

static int drop_snapshots(struct database_tx *tx, void *data, struct error *err)
{
	const struct chores *k = data;
	cleanup_arena struct arena a = {0};
	const char *unused = "used < ?1 AND NOT EXISTS (SELECT 1 FROM run r WHERE r.snapshot = "
			     "snapshot.sha256 AND r.ended IS NULL)";
	if (database_do(tx, &a,
		    arena_printf(&a,
			    "INSERT INTO garbage (blob, since) SELECT blob, ?2 FROM snapshot WHERE "
			    "%s",
			    unused),
		    database_values(
			    database_integer(k->now - SNAPSHOT_MS), database_integer(k->now)),
		    err) < 0)
		return -1;
	return database_do(tx, &a, arena_printf(&a, "DELETE FROM snapshot WHERE %s", unused),
		database_values(database_integer(k->now - SNAPSHOT_MS)), err);
}

// It comes every second. After a longer time nobody may have been able to renew a lease.
static bool was_away(const struct controller *c, int64_t now)
{
	int64_t most = c->limits.lease_ms / 3;
	most = most > GAP_MAX_MS ? GAP_MAX_MS : most < GAP_MIN_MS ? GAP_MIN_MS : most;
	return now < c->housekept || now - c->housekept > most;
}

int housekeeping(struct controller *c, int64_t now, struct error *err)
{
	enum { SNAPSHOT_EVERY = 600 };
	struct chores k = {.controller = c, .now = now};
	int rc = was_away(c, now) ? housekeeping_begin(c, now, err) : 0;
	if (rc == 0)
		rc = database_read(c->db, look, &k, err);
	if (rc == 0 && k.any)
		rc = database_write(c->db, expire, &k, err);
	if (rc == 0)
		rc = remove_garbage(&k, err);
	if (rc == 0 && now / 1000 % SNAPSHOT_EVERY == 0)
		rc = database_write(c->db, drop_snapshots, &k, err);
	arena_release(&k.arena);
	if (rc == 0)
		c->housekept = now;
	return rc;
}
