// SPDX-License-Identifier: Apache-2.0
#include "controller/state/poll.h"

#include "base/text.h"
#include "controller/state/run.h"
#include "controller/state/schedule.h"

struct taking {
	struct database_tx *tx;
	struct arena *arena;
	struct controller *controller;
	const char *node;
	int64_t now;
	bool freed; // there may be room for other runs
};

// ---- the node

static int put_names(
	struct taking *t, const char *kind, const char *const *names, struct error *err)
{
	if (!names)
		return 0;
	if (database_do(t->tx, t->arena, "DELETE FROM node_has WHERE node = ?1 AND kind = ?2",
		    database_values(database_text(t->node), database_text(kind)), err) < 0)
		return -1;
	for (; *names; names++)
		if (database_do(t->tx, t->arena,
			    "INSERT INTO node_has (node, kind, name) VALUES (?1, ?2, ?3) "
			    "ON CONFLICT (node, kind, name) DO NOTHING",
			    database_values(database_text(t->node), database_text(kind),
				    database_text(*names)),
			    err) < 0)
			return -1;
	return 0;
}

static int put_resources(struct taking *t, const struct poll *p, struct error *err)
{
	if (!p->resources)
		return 0;
	t->freed = true;
	return database_do(t->tx, t->arena,
		"UPDATE node SET resources = ?2, cpus = ?3, memory = ?4, gpus = ?5, version "
		"= "
		"?6, boot = ?7, instance = ?8 WHERE id = ?1",
		database_values(database_text(t->node),
			database_text(run_json_text(t->arena, p->resources)),
			database_real(p->cpus), database_integer((int64_t)p->memory),
			database_integer((int64_t)p->gpus), database_text(p->version),
			database_text(p->boot), database_text(p->instance)),
		err);
}

static int put_node(struct taking *t, const struct poll *p, struct error *err)
{
	int64_t n = database_run(t->tx, t->arena,
		"UPDATE node SET last_seen = ?2, draining = ?3, away = ?4 WHERE id = ?1 AND "
		"removed IS NULL",
		database_values(database_text(t->node), database_integer(t->now),
			database_integer(p->draining), database_integer(p->leaving)),
		NULL, err);
	if (n == 0)
		return error_set(err, ERROR_DENIED, "the node was removed");
	return n < 0 || put_resources(t, p, err) < 0 || put_names(t, "image", p->images, err) < 0 ||
			       put_names(t, "environment", p->environments, err) < 0
		       ? -1
		       : 0;
}

// ---- attempts

static const char *run_state_of(const char *state)
{
	return streq(state, "running")	    ? "Running"
	       : streq(state, "finalizing") ? "Finalizing"
					    : "Preparing";
}

static int put_attempt(struct taking *t, const struct poll_attempt *p, struct error *err)
{
	return database_do(t->tx, t->arena,
		"UPDATE attempt SET state = ?3, sequence = ?4, started = ?5, environment = "
		"?6, "
		"retries = ?7, exit_status = ?8, cause = ?9, result = ?10 "
		"WHERE run = ?1 AND attempt = ?2",
		database_values(database_text(p->run), database_integer(p->attempt),
			database_text(p->state), database_integer(p->sequence),
			p->started ? database_integer(p->started) : database_text(NULL),
			database_text(p->environment), database_integer(p->retries),
			p->exit_status < 0 ? database_text(NULL) : database_integer(p->exit_status),
			database_text(run_json_text(t->arena, p->cause)), database_text(p->result)),
		err);
}

static int put_run(struct taking *t, const struct poll_attempt *p, struct error *err)
{
	return database_do(t->tx, t->arena,
		"UPDATE run SET state = ?2, phase = ?3, progress = ?4, "
		"started = COALESCE(started, ?5), upload = COALESCE(?6, upload) WHERE id = "
		"?1",
		database_values(database_text(p->run), database_text(run_state_of(p->state)),
			database_text(p->phase),
			database_text(run_json_text(t->arena, p->progress)),
			p->started ? database_integer(p->started) : database_text(NULL),
			database_text(run_json_text(t->arena, p->upload))),
		err);
}

// Which environment jobs of this kind come to have: the next one goes where it is.
static int learn_environment(struct taking *t, const struct poll_attempt *p, struct error *err)
{
	if (!p->environment)
		return 0;
	return database_do(t->tx, t->arena,
		"INSERT INTO environment (hint, name, seen) SELECT hint, ?2, ?3 FROM run "
		"WHERE id = ?1 AND hint IS NOT NULL ON CONFLICT (hint) DO UPDATE SET "
		"name = excluded.name, seen = excluded.seen",
		database_values(database_text(p->run), database_text(p->environment),
			database_integer(t->now)),
		err);
}

static int tell_phase(struct taking *t, const struct poll_attempt *p, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "phase", p->phase);
	if (p->progress) {
		json_write_key(w, "progress");
		json_write_tree(w, p->progress);
	}
	json_write_close_object(w);
	if (json_writer_finish(w, &b, err) < 0)
		return -1;
	return run_event(t->tx, t->arena, p->run, "phase", b.data, t->now, err);
}

static int end_attempt(struct taking *t, const struct poll_attempt *p, struct error *err)
{
	t->freed = true;
	return schedule_release(t->tx, t->arena, p->run, p->attempt, "ended", t->now, err) < 0
		       ? -1
		       : run_end(t->tx, t->arena, &t->controller->limits, p->run, p->result,
				 run_json_text(t->arena, p->cause), t->now, err);
}

static int rank_of(const char *state)
{
	static const char *const order[] = {
		"assigned", "accepted", "preparing", "running", "finalizing", "ended"};
	for (size_t i = 0; i < array_size(order); i++)
		if (streq(order[i], state))
			return (int)i;
	return -1;
}

// A node's clock may have been set back, and with it the sequence of an agent that started since;
// an attempt goes on all the same: through its retries, and in each through its states.
static bool is_newer(const struct poll_attempt *p, const struct database_rows *before)
{
	int64_t sequence = database_get_integer(before, 0, 1, 0);
	int64_t retries = database_get_integer(before, 0, 2, 0);
	int was = rank_of(database_get_text(before, 0, 0)), is = rank_of(p->state);
	bool end = streq(p->state, "ended");
	if (p->retries != retries && !end)
		return p->retries > retries;
	return is != was ? is > was : p->sequence > sequence;
}

static int take_attempt(struct taking *t, const struct poll_attempt *p, struct error *err)
{
	struct database_rows rows;
	int64_t lease = t->now + t->controller->limits.lease_ms;
	if (database_run(t->tx, t->arena,
		    "UPDATE attempt SET lease_until = ?4 WHERE run = ?1 AND attempt = ?2 AND node "
		    "= ?3 "
		    "AND open = 1 RETURNING state, sequence, retries, "
		    "(SELECT phase FROM run WHERE id = ?1)",
		    database_values(database_text(p->run), database_integer(p->attempt),
			    database_text(t->node), database_integer(lease)),
		    &rows, err) < 0)
		return -1;
	if (!rows.count || !is_newer(p, &rows))
		return 0;
	const char *state = database_get_text(&rows, 0, 0), *phase = database_get_text(&rows, 0, 3);
	if (put_attempt(t, p, err) < 0 || put_run(t, p, err) < 0 ||
		learn_environment(t, p, err) < 0)
		return -1;
	if (streq(p->state, "ended"))
		return end_attempt(t, p, err);
	if (!streq(run_state_of(state), run_state_of(p->state)) || streq(state, "assigned"))
		return run_event_state(
			t->tx, t->arena, &t->controller->limits, p->run, t->now, err);
	if (p->progress || !streq(phase ? phase : "", p->phase ? p->phase : ""))
		return tell_phase(t, p, err);
	return 0;
}

// What the node was told to start and does not name was not heard: with a wish to cancel there is
// no use in saying it again.
static int end_unheard(struct taking *t, const struct poll *p, struct error *err)
{
	struct database_rows rows;
	if (database_run(t->tx, t->arena,
		    "SELECT t.run, t.attempt FROM attempt t JOIN run r ON r.id = t.run WHERE "
		    "t.node = ?1 AND t.open = 1 AND t.state = 'assigned' AND r.cancel_requested IS "
		    "NOT NULL LIMIT 1000",
		    database_values(database_text(t->node)), &rows, err) < 0)
		return -1;
	for (size_t i = 0; i < rows.count; i++) {
		const char *run = database_get_text(&rows, i, 0);
		int64_t attempt = database_get_integer(&rows, i, 1, 0);
		if (poll_named(p, run, attempt))
			continue;
		t->freed = true;
		if (run_cancel_unstarted(
			    t->tx, t->arena, &t->controller->limits, run, attempt, t->now, err) < 0)
			return -1;
	}
	return 0;
}

// ---- what it cannot hold

static int take_return(struct taking *t, const struct poll_return *p, struct error *err)
{
	int rc = schedule_return(t->tx, t->arena, &t->controller->limits, p->run, p->attempt,
		t->node, p->reason, t->now, err);
	t->freed |= rc > 0;
	return rc < 0 ? -1 : 0;
}

// What it was given and has not heard of would wait for its lease.
static int return_unheard(struct taking *t, struct error *err)
{
	struct database_rows rows;
	if (database_run(t->tx, t->arena,
		    "SELECT run, attempt FROM attempt WHERE node = ?1 AND open = 1 AND state = "
		    "'assigned' LIMIT 1000",
		    database_values(database_text(t->node)), &rows, err) < 0)
		return -1;
	for (size_t i = 0; i < rows.count; i++) {
		const struct poll_return r = {.run = database_get_text(&rows, i, 0),
			.attempt = database_get_integer(&rows, i, 1, 0),
			.reason = "its agent was ended"};
		if (take_return(t, &r, err) < 0)
			return -1;
	}
	return 0;
}

int poll_take(struct database_tx *tx, struct arena *a, struct controller *c, const char *node,
	const struct poll *p, bool report, int64_t now, struct error *err)
{
	struct taking t = {.tx = tx, .arena = a, .controller = c, .node = node, .now = now};
	if (!report && put_node(&t, p, err) < 0)
		return -1;
	for (size_t i = 0; i < p->attempt_count; i++)
		if (take_attempt(&t, &p->attempts[i], err) < 0)
			return -1;
	for (size_t i = 0; i < p->return_count; i++)
		if (take_return(&t, &p->returns[i], err) < 0)
			return -1;
	if ((!report && end_unheard(&t, p, err) < 0) || (p->leaving && return_unheard(&t, err) < 0))
		return -1;
	return t.freed ? schedule(tx, a, c, now, err) : 0;
}
