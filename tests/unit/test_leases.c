// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/state_lab.h"

static const char job[] = "{\"experiment\": \"e\"}";

static const struct json *attempt_of(const struct json *run, size_t i)
{
	const struct json *list = json_get(run, "attempts");
	assert_true(i < list->count);
	return &list->members[i].value;
}

static void test_lost_lease(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 4, 0, ""), *run = lab_submit(l, job);
	const char *old = lab_accept(l, a, run, 1);
	lab_poll(l, a, lab_said(l, run, 1, "running", ""));
	assert_string_equal(lab_state(l, run), "Running");
	assert_true(lab_may(l, old, run, ACCESS_WRITE));

	lab_pass(l, LEASE - 1);
	assert_string_equal(lab_state(l, run), "Running");
	const char *b = lab_node(l, "b", 4, 0, "");
	lab_pass(l, 2 * SECOND);
	assert_string_equal(lab_state(l, run), "Starting");

	const struct json *start = lab_start(lab_poll(l, b, ""), run);
	assert_int_equal(json_get_integer(start, "attempt", 0), 2);
	assert_true(json_get(start, "restore")->boolean);
	assert_string_equal(json_get_string(json_get(start, "secrets"), "key"), "s3cret");
	const struct json *shown = lab_run(l, run), *first = attempt_of(shown, 0);
	assert_string_equal(json_get_string(shown, "node"), "b");
	assert_string_equal(json_get_string(first, "state"), "lost");
	assert_string_equal(json_get_string(json_get(first, "cause"), "code"), "NodeLost");
	assert_string_equal(json_get_string(attempt_of(shown, 1), "state"), "assigned");
	assert_int_equal(lab_number(l, "SELECT used_cpus * 10 FROM node WHERE id = ?1", a), 0);
}

static void test_fencing(void **state)
{
	struct lab *l = *state;
	static const enum access writes[] = {ACCESS_WRITE, ACCESS_METRICS, ACCESS_READ};
	const char *a = lab_node(l, "a", 4, 0, ""), *run = lab_submit(l, job);
	const char *old = lab_accept(l, a, run, 1);
	lab_pass(l, LEASE);
	const char *b = lab_node(l, "b", 4, 0, "");
	lab_pass(l, SECOND);
	for (size_t i = 0; i < array_size(writes); i++)
		assert_true(lab_is_stale(l, old, run, writes[i]));
	const char *new = lab_accept(l, b, run, 2);
	assert_true(lab_is_stale(l, old, run, ACCESS_WRITE));
	assert_true(lab_may(l, new, run, ACCESS_WRITE));

	// The node is back and says what it did meanwhile.
	lab_report(l, a, lab_said(l, run, 1, "running", ""));
	lab_report(l, a, lab_said(l, run, 1, "ended", ", \"result\": \"Completed\""));
	assert_string_equal(lab_state(l, run), "Preparing");
	const struct json *answer =
		lab_poll(l, a, lab_said(l, run, 1, "ended", ", \"result\": \"Completed\""));
	assert_int_equal(lab_count(answer, "stale"), 1);
	assert_int_equal(lab_count(answer, "known"), 0);
	assert_string_equal(lab_state(l, run), "Preparing");
	assert_true(lab_is_stale(l, old, run, ACCESS_WRITE));

	// Nor may it speak for the other's attempt.
	lab_report(l, a, lab_said(l, run, 2, "ended", ", \"result\": \"Failed\""));
	assert_int_equal(lab_count(lab_poll(l, a, lab_said(l, run, 2, "running", "")), "stale"), 1);
	assert_string_equal(lab_state(l, run), "Preparing");

	lab_poll(l, b, lab_said(l, run, 2, "ended", ", \"result\": \"Completed\""));
	assert_string_equal(lab_state(l, run), "Completed");
	assert_true(lab_is_stale(l, new, run, ACCESS_WRITE));
}

static void test_same_node_again(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	const char *old = lab_accept(l, a, run, 1);
	lab_pass(l, LEASE + SECOND);
	assert_string_equal(lab_state(l, run), "NotStarted");
	const char *late = lab_said(l, run, 1, "running", "");
	lab_poll(l, a, late);
	lab_house(l);
	const struct json *answer = lab_poll(l, a, late);
	assert_int_equal(lab_count(answer, "stale"), 1);
	assert_int_equal(json_get_integer(lab_start(answer, run), "attempt", 0), 2);
	assert_true(lab_is_stale(l, old, run, ACCESS_WRITE));
	assert_true(
		lab_may(l, json_get_string(lab_start(answer, run), "token"), run, ACCESS_WRITE));
}

static void test_lost_too_often(void **state)
{
	struct lab *l = *state;
	const char *run = lab_submit(l, job);
	for (int i = 1; i <= 4; i++) {
		const char *node = lab_node(l, arena_printf(&l->arena, "n%d", i), 1, 0, "");
		lab_house(l);
		lab_accept(l, node, run, i);
		assert_string_equal(lab_state(l, run), "Preparing");
		lab_pass(l, LEASE + SECOND);
	}
	const struct json *shown = lab_run(l, run), *cause = json_get(shown, "cause");
	assert_string_equal(json_get_string(shown, "state"), "Failed");
	assert_string_equal(json_get_string(cause, "class"), "infrastructure");
	assert_string_equal(json_get_string(cause, "code"), "NodeLost");
	assert_int_equal(json_get(shown, "attempts")->count, 4);
	assert_int_equal(lab_number(l, "SELECT COUNT(*) FROM attempt WHERE open = 1", NULL), 0);
	assert_int_equal(
		lab_number(l, "SELECT COUNT(*) FROM run WHERE secrets IS NOT NULL", NULL), 0);
}

static void test_never_accepted(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	for (int i = 0; i < 13; i++) { // it polls, and never names what it is told to start
		assert_non_null(lab_start(lab_poll(l, a, ""), run));
		lab_pass(l, 5 * SECOND);
	}
	assert_int_equal(json_get_integer(lab_start(lab_poll(l, a, ""), run), "attempt", 0), 2);
}

static void test_polls_and_reports_renew(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 2, 0, "");
	const char *polled = lab_submit(l, job), *reported = lab_submit(l, job);
	const char *dropped =
		lab_submit(l, "{\"experiment\": \"e\", \"resources\": {\"cpus\": 0.1}}");
	lab_accept(l, a, polled, 1);
	lab_accept(l, a, reported, 1);
	for (int i = 0; i < 10; i++) {
		lab_pass(l, LEASE / 2);
		lab_poll(l, a, lab_said(l, polled, 1, "running", ""));
		lab_report(l, a, lab_said(l, reported, 1, "running", ""));
	}
	assert_string_equal(lab_state(l, polled), "Running");
	assert_string_equal(lab_state(l, reported), "Running");
	assert_string_equal(lab_state(l, dropped), "NotStarted"); // there was no room for it
}

static void test_not_responding(void **state)
{
	struct lab *l = *state;
	l->c.limits.lease_ms = 5 * SECOND;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	lab_accept(l, a, run, 1);
	l->now += 5 * SECOND;
	assert_string_equal(lab_state(l, run), "Preparing");
	l->now += 1;
	assert_string_equal(lab_state(l, run), "NotResponding");
	// What followers are told goes by the same lease.
	lab_cancel(l, run);
	assert_string_equal(lab_state(l, run), "NotResponding");
	assert_int_equal(lab_number(l,
				 "SELECT COUNT(*) FROM event WHERE run = ?1 AND kind = 'state' AND "
				 "data LIKE '%\"state\":\"NotResponding\"%'",
				 run),
		1);
	lab_report(l, a, lab_said(l, run, 1, "running", ""));
	lab_poll(l, a, lab_said(l, run, 1, "running", ""));
	assert_string_equal(lab_state(l, run), "CancelRequested");
}

// A controller that was away, stopped, without its database, or whose clock was set: nobody could
// renew a lease meanwhile.
static void test_leases_do_not_run_out_while_nobody_keeps_house(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	lab_accept(l, a, run, 1);
	lab_pass(l, 20 * SECOND);
	l->now += 600 * SECOND;
	lab_house(l);
	assert_string_equal(lab_state(l, run), "NotResponding");
	lab_pass(l, LEASE - SECOND);
	assert_string_equal(lab_state(l, run), "NotResponding");
	lab_poll(l, a, lab_said(l, run, 1, "running", ""));
	assert_string_equal(lab_state(l, run), "Running");
	lab_pass(l, LEASE - SECOND);
	assert_string_equal(lab_state(l, run), "Running");
	lab_pass(l, 2 * SECOND);
	assert_string_equal(lab_state(l, run), "NotStarted");
	// One that starts anew, too.
	lab_poll(l, a, "");
	lab_house(l);
	lab_accept(l, a, run, 2);
	l->now += 2 * LEASE;
	assert_int_equal(housekeeping_begin(&l->c, l->now, &l->err), 0);
	lab_pass(l, LEASE - SECOND);
	lab_poll(l, a, lab_said(l, run, 2, "running", ""));
	assert_string_equal(lab_state(l, run), "Running");
}

static int remove_in(struct database_tx *tx, void *data, struct error *err)
{
	struct lab_work *w = data;
	return node_remove(tx, &w->lab->arena, w->a, w->lab->now, err);
}

static void test_node_signs_off(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	const char *old = lab_accept(l, a, run, 1);
	const char *b = lab_node(l, "b", 1, 0, "");
	struct lab_work w = {.a = a};
	lab_do(l, remove_in, &w);
	lab_house(l);
	assert_true(lab_is_stale(l, old, run, ACCESS_WRITE));
	lab_accept(l, b, run, 2);
	struct lab_work again = {.a = a};
	assert_int_equal(lab_try(l, remove_in, &again), -1);
	assert_int_equal(l->err.kind, ERROR_NOT_FOUND);
	// It may not poll any more either.
	struct lab_work poll = {.a = a};
	assert_int_equal(poll_decode(&l->arena, lab_json(l, "{\"attempts\": []}"), false,
				 &poll.poll, &l->err),
		0);
	assert_int_equal(lab_try(l, lab_poll_in, &poll), -1);
	assert_int_equal(l->err.kind, ERROR_DENIED);
	json_writer_free(poll.writer);
}

static void test_node_is_replaced(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	lab_accept(l, a, run, 1);
	struct lab_work w = {.a = "a"};
	lab_do(l, lab_join_in, &w);
	assert_int_equal(w.number, 1); // taken
	w.flag = true;
	lab_do(l, lab_join_in, &w);
	assert_int_equal(w.number, 0);
	assert_string_not_equal(w.text, a);
	lab_poll_body(l, w.text,
		"{\"attempts\": [], \"resources\": {\"cpus\": 1, \"memory\": 16000000000}}");
	lab_house(l);
	lab_accept(l, w.text, run, 2);
}

static int put_files(struct database_tx *tx, void *data, struct error *err)
{
	struct lab_work *w = data;
	struct arena *a = &w->lab->arena;
	static const char *const paths[] = {"user_logs/std_log.txt", "outputs/model.bin"};
	char blob[BLOB_ID_SIZE];
	for (size_t i = 0; i < array_size(paths); i++)
		if (file_open(tx, a, &w->lab->c.limits, w->a, paths[i], false, blob, err) < 0)
			return -1;
	return 0;
}

static int64_t has_file(struct lab *l, const char *run, const char *path)
{
	return lab_number(l,
		arena_printf(&l->arena, "SELECT COUNT(*) FROM file WHERE run = ?1 AND path = '%s'",
			path),
		run);
}

static void test_logs_of_a_lost_attempt(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	struct lab_work w = {.a = run};
	lab_accept(l, a, run, 1);
	lab_do(l, put_files, &w);
	lab_pass(l, LEASE + SECOND);
	assert_int_equal(has_file(l, run, "attempts/1/user_logs/std_log.txt"), 1);
	assert_int_equal(has_file(l, run, "user_logs/std_log.txt"), 0);
	assert_int_equal(has_file(l, run, "outputs/model.bin"), 1);
	// Of the last attempt they are the run's.
	lab_poll(l, a, "");
	lab_house(l);
	lab_accept(l, a, run, 2);
	lab_do(l, put_files, &w);
	lab_cancel(l, run);
	lab_pass(l, LEASE + SECOND);
	assert_string_equal(lab_state(l, run), "Canceled");
	assert_int_equal(has_file(l, run, "user_logs/std_log.txt"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		lab_test(test_lost_lease),
		lab_test(test_fencing),
		lab_test(test_same_node_again),
		lab_test(test_lost_too_often),
		lab_test(test_never_accepted),
		lab_test(test_polls_and_reports_renew),
		lab_test(test_not_responding),
		lab_test(test_leases_do_not_run_out_while_nobody_keeps_house),
		lab_test(test_node_signs_off),
		lab_test(test_node_is_replaced),
		lab_test(test_logs_of_a_lost_attempt),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
