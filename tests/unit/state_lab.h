// SPDX-License-Identifier: Apache-2.0
//
// controller/state for unit tests: a database, a clock that the test sets, and nodes and users that
// speak in JSON. With SQLite; with the PostgreSQL of STOKER_TEST_DATABASE, whose tables are
// dropped, where that is set (tests/integration/test_state.py). Whatever fails ends the test.
#pragma once

#include "base/file.h"
#include "base/text.h"
#include "controller/state/file.h"
#include "controller/state/housekeeping.h"
#include "controller/state/node.h"
#include "controller/state/poll.h"
#include "controller/state/run.h"
#include "controller/state/schedule.h"

#include <fcntl.h>
#include <libpq-fe.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LEASE = 60 * 1000, SECOND = 1000 };

struct lab {
	struct controller c;
	struct arena arena; // of all that tests are given
	struct error err;
	int64_t now;
	char folder[64];
	int sequence; // of what nodes say
};

static void lab_drop_tables(const char *url)
{
	PGconn *c = PQconnectdb(url);
	PGresult *r = PQexec(c, "SET client_min_messages = error; DROP SCHEMA public CASCADE;"
				"CREATE SCHEMA public");
	if (PQresultStatus(r) != PGRES_COMMAND_OK)
		fail_msg("%s", PQerrorMessage(c));
	PQclear(r);
	PQfinish(c);
}

static inline int lab_set_up(void **state)
{
	struct lab *l = xcalloc(1, sizeof(*l));
	const char *url = getenv("STOKER_TEST_DATABASE");
	snprintf(l->folder, sizeof(l->folder), "/tmp/stoker-state.XXXXXX");
	assert_non_null(mkdtemp(l->folder));
	if (url)
		lab_drop_tables(url);
	l->c.db = database_open(
		url ? url : arena_printf(&l->arena, "%s/controller.db", l->folder), &l->err);
	if (!l->c.db)
		fail_msg("%s", l->err.text);
	l->c.blobs = blobs_open(arena_printf(&l->arena, "%s/files", l->folder), l->c.db, &l->err);
	assert_non_null(l->c.blobs);
	l->c.limits = controller_limits_default;
	l->now = 1700000000000;
	assert_int_equal(housekeeping_begin(&l->c, l->now, &l->err), 0);
	*state = l;
	return 0;
}

static inline int lab_tear_down(void **state)
{
	struct lab *l = *state;
	struct error err;
	blobs_close(l->c.blobs);
	database_close(l->c.db);
	int rc = directory_remove(AT_FDCWD, l->folder, &err);
	arena_release(&l->arena);
	free(l);
	return rc;
}

// ---- one transaction

struct lab_work {
	struct lab *lab;
	const char *a, *b;
	char *text;
	const struct json *tree;
	struct json_writer *writer;
	int64_t number;
	bool flag;
	struct poll poll;
	struct identity who;
};

static inline int lab_try(struct lab *l, database_fn *fn, struct lab_work *w)
{
	w->lab = l;
	return database_write(l->c.db, fn, w, &l->err);
}

static inline void lab_do(struct lab *l, database_fn *fn, struct lab_work *w)
{
	if (lab_try(l, fn, w) < 0)
		fail_msg("%s", l->err.text);
}

static inline const struct json *lab_json(struct lab *l, const char *text)
{
	const struct json *tree = json_parse(&l->arena, text, strlen(text), "lab", NULL, &l->err);
	if (!tree)
		fail_msg("%s: %s", text, l->err.text);
	return tree;
}

static inline const struct json *lab_written(struct lab *l, struct json_writer *w)
{
	cleanup_buffer struct buffer b = {0};
	if (json_writer_finish(w, &b, &l->err) < 0)
		fail_msg("%s", l->err.text);
	json_writer_free(w);
	return lab_json(l, arena_strdup(&l->arena, b.data));
}

static inline int lab_ask_in(struct database_tx *tx, void *data, struct error *err)
{
	struct lab_work *w = data;
	const struct database_value of = database_text(w->b);
	struct database_rows rows;
	if (database_run(tx, &w->lab->arena, w->a, &of, w->b ? 1 : 0, &rows, err) < 0)
		return -1;
	assert_int_equal(rows.count, 1);
	w->number =
		database_get_integer(&rows, 0, 0, (int64_t)(database_get_real(&rows, 0, 0) + 0.5));
	return 0;
}

// A number out of the tables, to the nearest integer; ?1 is `of`, where it is not NULL.
static inline int64_t lab_number(struct lab *l, const char *sql, const char *of)
{
	struct lab_work w = {.a = sql, .b = of};
	lab_do(l, lab_ask_in, &w);
	return w.number;
}

// ---- users

static inline int lab_submit_in(struct database_tx *tx, void *data, struct error *err)
{
	struct lab_work *w = data;
	const struct run_submission s = {.job = w->tree,
		.secrets = lab_json(w->lab, "{\"key\": \"s3cret\"}"),
		.owner = "ada",
		.key = w->b,
		.now = w->lab->now};
	w->text = arena_alloc(&w->lab->arena, RUN_ID_SIZE);
	return run_submit(tx, &w->lab->arena, &w->lab->c.limits, &s, w->text, &w->flag, err) < 0 ||
			       schedule(tx, &w->lab->arena, &w->lab->c, w->lab->now, err) < 0
		       ? -1
		       : 0;
}

// Ada's run of that job; time goes on a little, so that the queue has an order.
static inline const char *lab_submit(struct lab *l, const char *job)
{
	struct lab_work w = {.tree = lab_json(l, job)};
	l->now++;
	lab_do(l, lab_submit_in, &w);
	return w.text;
}

static inline int lab_run_in(struct database_tx *tx, void *data, struct error *err)
{
	struct lab_work *w = data;
	json_writer_free(w->writer);
	w->writer = json_writer_new(false);
	return run_write(
		tx, &w->lab->arena, w->a, true, w->lab->now, &w->lab->c.limits, w->writer, err);
}

static inline const struct json *lab_run(struct lab *l, const char *run)
{
	struct lab_work w = {.a = run};
	lab_do(l, lab_run_in, &w);
	return lab_written(l, w.writer);
}

static inline const char *lab_state(struct lab *l, const char *run)
{
	return json_get_string(lab_run(l, run), "state");
}

static inline const char *lab_cause(struct lab *l, const char *run)
{
	return json_get_string(json_get(lab_run(l, run), "cause"), "code");
}

static inline int lab_cancel_in(struct database_tx *tx, void *data, struct error *err)
{
	struct lab_work *w = data;
	return run_cancel(tx, &w->lab->arena, &w->lab->c.limits, w->a, "ada", w->lab->now, err);
}

static inline void lab_cancel(struct lab *l, const char *run)
{
	struct lab_work w = {.a = run};
	lab_do(l, lab_cancel_in, &w);
}

// ---- nodes

static inline int lab_poll_in(struct database_tx *tx, void *data, struct error *err)
{
	struct lab_work *w = data;
	struct lab *l = w->lab;
	json_writer_free(w->writer);
	w->writer = json_writer_new(false);
	if (poll_take(tx, &l->arena, &l->c, w->a, &w->poll, w->flag, l->now, err) < 0)
		return -1;
	bool idle;
	return w->flag ? 0
		       : poll_answer(tx, &l->arena, &l->c, w->a, &w->poll, l->now, w->writer, &idle,
				 err);
}

static inline const struct json *lab_poll_body(struct lab *l, const char *node, const char *body)
{
	struct lab_work w = {.a = node};
	if (poll_decode(&l->arena, lab_json(l, body), false, &w.poll, &l->err) < 0)
		fail_msg("%s: %s", body, l->err.text);
	lab_do(l, lab_poll_in, &w);
	return lab_written(l, w.writer);
}

// `attempts`: what the node says of them, with commas; "" of none.
static inline const struct json *lab_poll(struct lab *l, const char *node, const char *attempts)
{
	return lab_poll_body(l, node, arena_printf(&l->arena, "{\"attempts\": [%s]}", attempts));
}

static inline void lab_report(struct lab *l, const char *node, const char *attempts)
{
	struct lab_work w = {.a = node, .flag = true};
	const char *body = arena_printf(&l->arena, "{\"attempts\": [%s]}", attempts);
	if (poll_decode(&l->arena, lab_json(l, body), true, &w.poll, &l->err) < 0)
		fail_msg("%s: %s", body, l->err.text);
	lab_do(l, lab_poll_in, &w);
	json_writer_free(w.writer);
}

// What a node says of an attempt; `more`: further members, each with a comma before it.
static inline const char *lab_said(
	struct lab *l, const char *run, int attempt, const char *state, const char *more)
{
	return arena_printf(&l->arena,
		"{\"run\": \"%s\", \"attempt\": %d, \"sequence\": %d, \"state\": \"%s\"%s}", run,
		attempt, ++l->sequence, state, more);
}

static inline int lab_join_in(struct database_tx *tx, void *data, struct error *err)
{
	struct lab_work *w = data;
	char token[TOKEN_TEXT_SIZE];
	w->text = arena_alloc(&w->lab->arena, NODE_ID_SIZE);
	w->number =
		node_join(tx, &w->lab->arena, w->a, "1", w->flag, w->lab->now, w->text, token, err);
	return w->number < 0 ? -1 : 0;
}

static inline const char *lab_join(struct lab *l, const char *name)
{
	struct lab_work w = {.a = name};
	lab_do(l, lab_join_in, &w);
	assert_int_equal(w.number, 0);
	return w.text;
}

// A node that has been heard. `more` as above, such as ", \"environments\": […]".
static inline const char *lab_node(
	struct lab *l, const char *name, double cpus, int gpus, const char *more)
{
	const char *id = lab_join(l, name);
	lab_poll_body(l, id,
		arena_printf(&l->arena,
			"{\"attempts\": [], \"resources\": {\"cpus\": %g, \"memory\": 16000000000, "
			"\"gpus\": [%s]}%s}",
			cpus, gpus ? "{\"name\": \"0\"}" : "", more));
	return id;
}

static inline size_t lab_count(const struct json *answer, const char *list)
{
	return json_get(answer, list)->count;
}

// The start of that run in an answer; NULL: there is none.
static inline const struct json *lab_start(const struct json *answer, const char *run)
{
	json_array_each (item, json_get(answer, "starts"))
		if (streq(json_get_string(&item->value, "run"), run))
			return &item->value;
	return NULL;
}

// The node polls, gets the run and accepts it; its run token.
static inline const char *lab_accept(struct lab *l, const char *node, const char *run, int attempt)
{
	const struct json *start = lab_start(lab_poll(l, node, ""), run);
	assert_non_null(start);
	assert_int_equal(json_get_integer(start, "attempt", 0), attempt);
	lab_poll(l, node, lab_said(l, run, attempt, "accepted", ""));
	return json_get_string(start, "token");
}

// ---- the house

static inline void lab_house(struct lab *l)
{
	if (housekeeping(&l->c, l->now, &l->err) < 0)
		fail_msg("%s", l->err.text);
}

// Time passes, and house is kept, as in a controller that runs.
static inline void lab_pass(struct lab *l, int64_t ms)
{
	for (; ms > 0; ms -= 5 * SECOND) {
		l->now += ms < 5 * SECOND ? ms : 5 * SECOND;
		lab_house(l);
	}
}

static inline int lab_access_in(struct database_tx *tx, void *data, struct error *err)
{
	struct lab_work *w = data;
	return access_run(tx, &w->lab->arena, &w->who, w->b, (enum access)w->number, err);
}

// May the holder of the token do that to the run? Else l->err says why not.
static inline bool lab_may(struct lab *l, const char *token, const char *run, enum access access)
{
	struct lab_work w = {.lab = l, .b = run, .number = access};
	return identity_find(&l->c, token, &w.who, &l->err) == 0 &&
	       database_read(l->c.db, lab_access_in, &w, &l->err) == 0;
}

static inline bool lab_is_stale(struct lab *l, const char *token, const char *run, enum access a)
{
	return !lab_may(l, token, run, a) && l->err.kind == ERROR_DENIED &&
	       streq(l->err.text, "stale");
}

#define lab_test(f) cmocka_unit_test_setup_teardown(f, lab_set_up, lab_tear_down)
