// SPDX-License-Identifier: Apache-2.0
#include "controller/state/schedule.h"

#include "base/text.h"
#include "controller/state/run.h"

enum { RESERVED_MAX = 16, REFUSED_MAX = 16 };

struct waiting {
	const char *id, *hint, *image;
	double cpus;
	int64_t memory, gpus, created, attempt, priority;
};

struct pass {
	struct database_tx *tx;
	struct arena *arena;
	struct controller *controller;
	int64_t now;
	const char *reserved; // ",id,id,": nodes that a run waits for
	size_t reserved_count;
	struct waiting refused[REFUSED_MAX]; // what there is no room for, so nor for more
	size_t refused_count;
};

static const char usable[] = "n.removed IS NULL AND " SCHEDULE_TAKES
			     " AND " SCHEDULE_HEARD("?1") " AND ?2 NOT LIKE '%,' || n.id || ',%'";
static const char has_room[] = SCHEDULE_HAS_ROOM("?3", "?4", "?5");

static int find_node(struct pass *p, const struct waiting *w, const char **node, struct error *err)
{
	struct database_rows rows;
	const char *sql = arena_printf(p->arena,
		"SELECT n.id FROM node n "
		"LEFT JOIN environment v ON v.hint = ?6 "
		"LEFT JOIN node_has e ON e.node = n.id AND e.kind = 'environment' AND e.name = "
		"v.name "
		"LEFT JOIN node_has i ON i.node = n.id AND i.kind = 'image' AND i.name = ?7 "
		"WHERE %s AND %s AND NOT EXISTS (SELECT 1 FROM attempt b WHERE b.run = ?8 AND "
		"b.node = n.id AND b.state = 'returned' AND b.ended > ?9) "
		"ORDER BY CASE WHEN e.node IS NULL THEN 1 ELSE 0 END, "
		"CASE WHEN i.node IS NULL THEN 1 ELSE 0 END, n.used_cpus / (n.cpus + 0.001), n.id "
		"LIMIT 1",
		usable, has_room);
	if (database_run(p->tx, p->arena, sql,
		    database_values(database_integer(p->now - p->controller->limits.lease_ms),
			    database_text(p->reserved), database_real(w->cpus),
			    database_integer(w->memory), database_integer(w->gpus),
			    database_text(w->hint ? w->hint : ""),
			    database_text(w->image ? w->image : ""), database_text(w->id),
			    database_integer(p->now - SCHEDULE_RETURN_MS)),
		    &rows, err) < 0)
		return -1;
	*node = rows.count ? database_get_text(&rows, 0, 0) : NULL;
	return 0;
}

// The node that could hold it gets nothing else from here on.
static int reserve(struct pass *p, const struct waiting *w, struct error *err)
{
	struct database_rows rows;
	if (p->reserved_count == RESERVED_MAX || p->now - w->created < SCHEDULE_PATIENCE_MS)
		return 0;
	const char *sql = arena_printf(p->arena,
		"SELECT n.id FROM node n WHERE %s AND n.cpus >= ?3 AND n.memory >= ?4 AND "
		"n.gpus >= ?5 ORDER BY n.used_gpus - n.gpus, n.used_cpus - n.cpus, n.id LIMIT 1",
		usable);
	if (database_run(p->tx, p->arena, sql,
		    database_values(database_integer(p->now - p->controller->limits.lease_ms),
			    database_text(p->reserved), database_real(w->cpus),
			    database_integer(w->memory), database_integer(w->gpus)),
		    &rows, err) < 0)
		return -1;
	if (!rows.count)
		return 0;
	p->reserved = arena_printf(p->arena, "%s%s,", p->reserved, database_get_text(&rows, 0, 0));
	p->reserved_count++;
	return 0;
}

static int take_share(struct pass *p, const struct waiting *w, const char *node, struct error *err)
{
	return database_do(p->tx, p->arena,
		"UPDATE node SET used_cpus = used_cpus + ?2, used_memory = used_memory + "
		"?3, "
		"used_gpus = used_gpus + ?4 WHERE id = ?1",
		database_values(database_text(node), database_real(w->cpus),
			database_integer(w->memory), database_integer(w->gpus)),
		err);
}

static int assign(struct pass *p, const struct waiting *w, const char *node, struct error *err)
{
	int64_t attempt = w->attempt + 1;
	if (take_share(p, w, node, err) < 0 ||
		database_do(p->tx, p->arena,
			"INSERT INTO attempt (run, attempt, node, state, created, lease_until, "
			"restore) VALUES (?1, ?2, ?3, 'assigned', ?4, ?5, ?6)",
			database_values(database_text(w->id), database_integer(attempt),
				database_text(node), database_integer(p->now),
				database_integer(p->now + p->controller->limits.lease_ms),
				database_integer(attempt > 1)),
			err) < 0 ||
		database_do(p->tx, p->arena,
			"UPDATE run SET state = 'Starting', attempt = ?2, node = ?3 WHERE id = ?1",
			database_values(database_text(w->id), database_integer(attempt),
				database_text(node)),
			err) < 0)
		return -1;
	database_notify(p->tx, arena_printf(p->arena, "node/%s", node));
	return run_event_state(p->tx, p->arena, &p->controller->limits, w->id, p->now, err);
}

// Room only gets less in a pass.
static bool is_refused(const struct pass *p, const struct waiting *w)
{
	for (size_t i = 0; i < p->refused_count; i++) {
		const struct waiting *r = &p->refused[i];
		if (w->cpus >= r->cpus && w->memory >= r->memory && w->gpus >= r->gpus)
			return true;
	}
	return false;
}

static int place(struct pass *p, const struct waiting *w, struct error *err)
{
	const char *node = NULL;
	bool refused = is_refused(p, w);
	if (!refused && find_node(p, w, &node, err) < 0)
		return -1;
	if (node)
		return assign(p, w, node, err);
	// One that came back may be kept from a node for a while, which others are not.
	if (!refused && !w->attempt && p->refused_count < REFUSED_MAX)
		p->refused[p->refused_count++] = *w;
	return reserve(p, w, err);
}

// Is there a node with anything left to give? Of a long queue on a full cluster nothing is read.
static int any_room(struct pass *p, bool *any, struct error *err)
{
	struct database_rows rows;
	const char *sql = arena_printf(
		p->arena, "SELECT 1 FROM node n WHERE %s AND %s LIMIT 1", usable, has_room);
	if (database_run(p->tx, p->arena, sql,
		    database_values(database_integer(p->now - p->controller->limits.lease_ms),
			    database_text(p->reserved), database_real(0.00001), database_integer(0),
			    database_integer(0)),
		    &rows, err) < 0)
		return -1;
	*any = rows.count != 0;
	return 0;
}

// Those behind `last`, which becomes the last of them. Returns how many.
static int64_t place_page(struct pass *p, struct waiting *last, struct error *err)
{
	struct database_rows rows;
	const char *sql = arena_printf(p->arena,
		"SELECT id, hint, image, cpus, memory, gpus, created, attempt, priority FROM run "
		"WHERE state = 'NotStarted' AND (priority < ?1 OR (priority = ?1 AND (created > ?2 "
		"OR (created = ?2 AND id > ?3)))) ORDER BY priority DESC, created, id LIMIT %d%s",
		SCHEDULE_PAGE, database_skip_locked(p->tx));
	if (database_run(p->tx, p->arena, sql,
		    database_values(database_integer(last->priority),
			    database_integer(last->created), database_text(last->id)),
		    &rows, err) < 0)
		return -1;
	for (size_t i = 0; i < rows.count; i++) {
		*last = (struct waiting){
			.id = database_get_text(&rows, i, 0),
			.hint = database_get_text(&rows, i, 1),
			.image = database_get_text(&rows, i, 2),
			.cpus = database_get_real(&rows, i, 3),
			.memory = database_get_integer(&rows, i, 4, 0),
			.gpus = database_get_integer(&rows, i, 5, 0),
			.created = database_get_integer(&rows, i, 6, 0),
			.attempt = database_get_integer(&rows, i, 7, 0),
			.priority = database_get_integer(&rows, i, 8, 0),
		};
		if (place(p, last, err) < 0)
			return -1;
	}
	return (int64_t)rows.count;
}

int schedule(struct database_tx *tx, struct arena *a, struct controller *c, int64_t now,
	struct error *err)
{
	struct pass p = {.tx = tx, .arena = a, .controller = c, .now = now, .reserved = ","};
	struct waiting last = {.id = "", .priority = INT64_MAX};
	int64_t count = SCHEDULE_PAGE;
	bool any;
	if (any_room(&p, &any, err) < 0)
		return -1;
	for (int page = 0; any && page < SCHEDULE_PAGES_MAX && count == SCHEDULE_PAGE; page++)
		count = place_page(&p, &last, err);
	return count < 0 ? -1 : 0;
}

int schedule_release(struct database_tx *tx, struct arena *a, const char *run, int64_t attempt,
	const char *state, int64_t now, struct error *err)
{
	struct database_rows rows;
	if (database_run(tx, a,
		    "UPDATE attempt SET open = 0, state = ?3, ended = ?4 WHERE run = ?1 AND "
		    "attempt = ?2 AND open = 1 RETURNING node",
		    database_values(database_text(run), database_integer(attempt),
			    database_text(state), database_integer(now)),
		    &rows, err) < 0)
		return -1;
	if (!rows.count)
		return 0;
	return database_do(tx, a,
		"UPDATE node SET used_cpus = used_cpus - (SELECT cpus FROM run WHERE id = "
		"?2), "
		"used_memory = used_memory - (SELECT memory FROM run WHERE id = ?2), "
		"used_gpus = used_gpus - (SELECT gpus FROM run WHERE id = ?2) WHERE id = ?1",
		database_values(database_text(database_get_text(&rows, 0, 0)), database_text(run)),
		err);
}

int schedule_return(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *run, int64_t attempt, const char *node, const char *reason, int64_t now,
	struct error *err)
{
	cleanup_buffer struct buffer cause = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "class", "infrastructure");
	json_write_member(w, "code", "Returned");
	json_write_member(w, "message", reason);
	json_write_close_object(w);
	if (json_writer_finish(w, &cause, err) < 0)
		return -1;
	int64_t n = database_run(tx, a,
		"UPDATE attempt SET cause = ?4 WHERE run = ?1 AND attempt = ?2 AND node = ?3 AND "
		"open = 1 AND state = 'assigned'",
		database_values(database_text(run), database_integer(attempt), database_text(node),
			database_text(cause.data)),
		NULL, err);
	if (n <= 0)
		return (int)n;
	// One of them is remembered for each node.
	if (database_do(tx, a,
		    "DELETE FROM attempt WHERE run = ?1 AND node = ?2 AND state = 'returned'",
		    database_values(database_text(run), database_text(node)), err) < 0)
		return -1;
	return schedule_release(tx, a, run, attempt, "returned", now, err) < 0 ||
			       run_requeue(tx, a, limits, run, now, err) < 0
		       ? -1
		       : 1;
}
