// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/state_lab.h"

static const char job[] = "{\"experiment\": \"e\"}";

static const char result[] = ", \"result\": \"%s\", \"cause\": {\"class\": \"user\", \"code\": "
			     "\"%s\"}, \"upload\": {\"state\": \"Done\"}";

static void test_states(void **state)
{
	struct lab *l = *state;
	static const struct {
		const char *said, *more, *shown;
	} steps[] = {
		{"preparing", ", \"phase\": \"pulling\", \"progress\": {\"done\": 1}", "Preparing"},
		{"running", ", \"started\": 1700000000123", "Running"},
		{"finalizing", "", "Finalizing"},
	};
	const char *run = lab_submit(l, job);
	assert_string_equal(lab_state(l, run), "NotStarted");
	const char *a = lab_node(l, "a", 1, 0, "");
	lab_house(l);
	assert_string_equal(lab_state(l, run), "Starting");
	lab_accept(l, a, run, 1);
	assert_string_equal(lab_state(l, run), "Preparing");
	for (size_t i = 0; i < array_size(steps); i++) {
		lab_poll(l, a, lab_said(l, run, 1, steps[i].said, steps[i].more));
		assert_string_equal(lab_state(l, run), steps[i].shown);
	}
	lab_poll(l, a,
		lab_said(l, run, 1, "ended", arena_printf(&l->arena, result, "Failed", "Exit")));
	const struct json *shown = lab_run(l, run);
	assert_string_equal(json_get_string(shown, "state"), "Failed");
	assert_string_equal(json_get_string(json_get(shown, "cause"), "code"), "Exit");
	assert_string_equal(json_get_string(json_get(shown, "upload"), "state"), "Done");
	assert_true(json_get_integer(shown, "started", 0) == 1700000000123);
	assert_true(json_get_integer(shown, "ended", 0) == l->now);
	assert_null(json_get_string(shown, "phase"));
	// Whoever follows it was told each, and the end last.
	assert_int_equal(
		lab_number(l, "SELECT COUNT(*) FROM event WHERE run = ?1 AND kind = 'state'", run),
		6);
	assert_int_equal(lab_number(l,
				 "SELECT COUNT(*) FROM event e WHERE e.run = ?1 AND kind = 'end' "
				 "AND number = (SELECT MAX(number) FROM event WHERE run = ?1)",
				 run),
		1);
}

static void test_once_with_a_key(void **state)
{
	struct lab *l = *state;
	struct lab_work w = {.tree = lab_json(l, job), .b = "key1"};
	lab_do(l, lab_submit_in, &w);
	assert_true(w.flag);
	const char *first = w.text;
	l->now += SECOND;
	lab_do(l, lab_submit_in, &w);
	assert_false(w.flag);
	assert_string_equal(w.text, first);
	w.b = "key2";
	lab_do(l, lab_submit_in, &w);
	assert_true(w.flag);
	assert_string_not_equal(w.text, first);
	l->c.limits.queue_max = 2;
	w.b = "key3";
	assert_int_equal(lab_try(l, lab_submit_in, &w), -1);
	assert_int_equal(l->err.kind, ERROR_LIMIT);
	w.b = "key1"; // that is no further one
	lab_do(l, lab_submit_in, &w);
	assert_string_equal(w.text, first);
}

static void assert_canceled(struct lab *l, const char *run)
{
	assert_string_equal(lab_state(l, run), "Canceled");
	assert_string_equal(lab_cause(l, run), "Canceled");
	assert_int_equal(lab_number(l, "SELECT COUNT(*) FROM attempt WHERE open = 1", NULL), 0);
	assert_int_equal(lab_number(l, "SELECT SUM(used_cpus * 10) FROM node", NULL), 0);
}

static void test_cancel_in_the_queue(void **state)
{
	struct lab *l = *state;
	const char *run = lab_submit(l, job);
	lab_cancel(l, run);
	const char *a = lab_node(l, "a", 1, 0, "");
	lab_house(l);
	assert_canceled(l, run);
	assert_int_equal(lab_count(lab_poll(l, a, ""), "starts"), 0);
	lab_cancel(l, run); // nothing
	assert_canceled(l, run);
}

// The node was chosen and does not know yet.
static void test_cancel_before_the_node_is_told(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	assert_string_equal(lab_state(l, run), "Starting");
	lab_cancel(l, run);
	assert_canceled(l, run);
	assert_int_equal(lab_count(lab_poll(l, a, ""), "starts"), 0);
}

// The answer with the start was lost on its way.
static void test_cancel_while_the_node_has_not_heard(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	assert_non_null(lab_start(lab_poll(l, a, ""), run));
	lab_cancel(l, run);
	assert_string_equal(lab_state(l, run), "CancelRequested");
	const struct json *answer = lab_poll(l, a, "");
	assert_int_equal(lab_count(answer, "starts"), 0);
	assert_canceled(l, run);
	// Had it heard nevertheless, it is told to drop it.
	answer = lab_poll(l, a, lab_said(l, run, 1, "running", ""));
	assert_int_equal(lab_count(answer, "stale"), 1);
	assert_canceled(l, run);
}

static void test_cancel_while_it_runs(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	lab_accept(l, a, run, 1);
	lab_poll(l, a, lab_said(l, run, 1, "running", ""));
	lab_cancel(l, run);
	const struct json *answer = lab_poll(l, a, lab_said(l, run, 1, "running", ""));
	assert_string_equal(lab_state(l, run), "CancelRequested");
	assert_int_equal(lab_count(answer, "cancels"), 1);
	assert_string_equal(
		json_get_string(&json_get(answer, "cancels")->members[0].value, "by"), "ada");
	// It is a level: said until the end, whatever the node does.
	answer = lab_poll(l, a, lab_said(l, run, 1, "finalizing", ", \"canceling\": true"));
	assert_int_equal(lab_count(answer, "cancels"), 1);
	const char *end = lab_said(
		l, run, 1, "ended", arena_printf(&l->arena, result, "Canceled", "Canceled"));
	answer = lab_poll(l, a, end);
	assert_int_equal(lab_count(answer, "cancels"), 0);
	assert_canceled(l, run);
}

static void test_cancel_that_comes_too_late(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	lab_accept(l, a, run, 1);
	lab_cancel(l, run);
	lab_report(l, a,
		lab_said(l, run, 1, "ended", arena_printf(&l->arena, result, "Completed", "x")));
	assert_string_equal(lab_state(l, run), "Completed");
	lab_cancel(l, run);
	assert_string_equal(lab_state(l, run), "Completed");
}

static void test_cancel_while_the_node_is_silent(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	lab_accept(l, a, run, 1);
	lab_cancel(l, run);
	lab_pass(l, LEASE + SECOND);
	assert_canceled(l, run);
}

static int remove_in(struct database_tx *tx, void *data, struct error *err)
{
	struct lab_work *w = data;
	int rc = run_remove(tx, &w->lab->arena, w->a, err);
	w->number = rc;
	return rc ? -1 : 0;
}

static void test_remove(void **state)
{
	struct lab *l = *state;
	static const char *const tables[] = {"run", "attempt", "event", "token", "file", "metric"};
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	struct lab_work w = {.a = run};
	lab_accept(l, a, run, 1);
	assert_int_equal(lab_try(l, remove_in, &w), -1);
	assert_int_equal(w.number, 1);
	lab_report(
		l, a, lab_said(l, run, 1, "ended", arena_printf(&l->arena, result, "Failed", "x")));
	lab_do(l, remove_in, &w);
	for (size_t i = 0; i < array_size(tables); i++) {
		const char *sql = arena_printf(&l->arena, "SELECT COUNT(*) FROM %s WHERE %s = ?1",
			tables[i], i ? "run" : "id");
		assert_int_equal(lab_number(l, sql, run), 0);
	}
	assert_int_equal(lab_try(l, remove_in, &w), -1);
	assert_int_equal(l->err.kind, ERROR_NOT_FOUND);
}

struct listing {
	struct lab_work work;
	struct run_list list;
};

static int list_in(struct database_tx *tx, void *data, struct error *err)
{
	struct listing *g = data;
	struct lab *l = g->work.lab;
	json_writer_free(g->work.writer);
	g->work.writer = json_writer_new(false);
	json_write_open_object(g->work.writer);
	if (run_list(tx, &l->arena, &g->list, l->now, &l->c.limits, g->work.writer, err) < 0)
		return -1;
	json_write_close_object(g->work.writer);
	return 0;
}

static const struct json *list_runs(struct lab *l, const char *shown, const char *after)
{
	struct listing g = {.work = {.lab = l},
		.list = {.owner = "ada", .state = shown, .after = after, .limit = 3}};
	if (database_read(l->c.db, list_in, &g, &l->err) < 0)
		fail_msg("%s", l->err.text);
	return lab_written(l, g.work.writer);
}

static void test_list(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 2, 0, ""), *runs[7];
	for (size_t i = 0; i < 7; i++)
		runs[i] = lab_submit(l, job);
	lab_accept(l, a, runs[0], 1);
	lab_cancel(l, runs[0]);
	size_t seen = 0;
	const char *after = NULL;
	do { // newest first, each once
		const struct json *page = list_runs(l, NULL, after);
		json_array_each (item, json_get(page, "runs"))
			assert_string_equal(json_get_string(&item->value, "id"), runs[6 - seen++]);
		after = json_get_string(page, "next");
	} while (after);
	assert_int_equal(seen, 7);
	assert_int_equal(lab_count(list_runs(l, "CancelRequested", NULL), "runs"), 1);
	assert_int_equal(lab_count(list_runs(l, "Preparing", NULL), "runs"), 0);
	assert_int_equal(lab_count(list_runs(l, "Starting", NULL), "runs"), 1);
	l->now += LEASE + 1;
	assert_int_equal(lab_count(list_runs(l, "NotResponding", NULL), "runs"), 2);
	struct listing g = {.work = {.lab = l}, .list = {.after = "nonsense", .limit = 3}};
	assert_int_equal(database_read(l->c.db, list_in, &g, &l->err), -1);
	assert_int_equal(l->err.kind, ERROR_INVALID);
	json_writer_free(g.work.writer);
}

static int many_events(struct database_tx *tx, void *data, struct error *err)
{
	struct lab_work *w = data;
	for (int i = 0; i < RUN_EVENTS_KEPT + 100; i++)
		if (run_event(tx, &w->lab->arena, w->a, "phase", "{}", w->lab->now, err) < 0)
			return -1;
	return 0;
}

// However many phases and metrics a run has, its states are told, and the last of the others.
static void test_events_make_room(void **state)
{
	struct lab *l = *state;
	static const char count[] = "SELECT COUNT(*) FROM event WHERE run = ?1";
	struct lab_work w = {.a = lab_submit(l, job)};
	lab_do(l, many_events, &w);
	assert_int_equal(lab_number(l, count, w.a), RUN_EVENTS_KEPT + 1);
	lab_do(l, many_events, &w);
	lab_cancel(l, w.a);
	assert_true(lab_number(l, count, w.a) <= RUN_EVENTS_KEPT + 3);
	assert_int_equal(
		lab_number(l, "SELECT COUNT(*) FROM event WHERE run = ?1 AND kind <> 'phase'", w.a),
		3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		lab_test(test_states),
		lab_test(test_once_with_a_key),
		lab_test(test_cancel_in_the_queue),
		lab_test(test_cancel_before_the_node_is_told),
		lab_test(test_cancel_while_the_node_has_not_heard),
		lab_test(test_cancel_while_it_runs),
		lab_test(test_cancel_that_comes_too_late),
		lab_test(test_cancel_while_the_node_is_silent),
		lab_test(test_remove),
		lab_test(test_list),
		lab_test(test_events_make_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
