// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/state_lab.h"

#define JOB(cpus, more) "{\"experiment\": \"e\", \"resources\": {\"cpus\": " #cpus more "}}"

static const char *node_of(struct lab *l, const char *run)
{
	const char *name = json_get_string(lab_run(l, run), "node");
	return name ? name : "";
}

static void end(struct lab *l, const char *node, const char *run, const char *more)
{
	lab_poll(l, node, lab_said(l, run, 1, "running", more));
	lab_poll(l, node,
		lab_said(l, run, 1, "ended",
			arena_printf(&l->arena, ", \"result\": \"Completed\"%s", more)));
	assert_string_equal(lab_state(l, run), "Completed");
}

static void test_slots(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 4, 0, ""), *runs[6];
	for (size_t i = 0; i < 6; i++)
		runs[i] = lab_submit(l, JOB(1, ""));
	for (size_t i = 0; i < 6; i++)
		assert_string_equal(lab_state(l, runs[i]), i < 4 ? "Starting" : "NotStarted");
	assert_int_equal(lab_count(lab_poll(l, a, ""), "starts"), 4);
	for (size_t i = 0; i < 6; i++)
		assert_true(lab_number(l, "SELECT used_cpus FROM node WHERE id = ?1", a) <= 4);
	lab_accept(l, a, runs[2], 1);
	end(l, a, runs[2], "");
	// The next in the queue, at once.
	assert_string_equal(lab_state(l, runs[4]), "Starting");
	assert_string_equal(lab_state(l, runs[5]), "NotStarted");
	assert_int_equal(lab_number(l, "SELECT used_cpus FROM node WHERE id = ?1", a), 4);
}

static void test_memory_and_gpus(void **state)
{
	struct lab *l = *state;
	lab_node(l, "a", 8, 0, "");
	const char *gpu = lab_submit(l, JOB(1, ", \"gpus\": 1"));
	const char *big = lab_submit(l, JOB(1, ", \"memory\": \"10g\""));
	const char *more = lab_submit(l, JOB(1, ", \"memory\": \"10g\""));
	const char *small = lab_submit(l, JOB(1, ", \"memory\": \"1g\""));
	assert_string_equal(lab_state(l, gpu), "NotStarted");
	assert_string_equal(node_of(l, big), "a");
	assert_string_equal(lab_state(l, more), "NotStarted");
	assert_string_equal(node_of(l, small), "a");
	lab_node(l, "g", 8, 1, "");
	lab_house(l);
	assert_string_equal(node_of(l, gpu), "g");
	assert_string_equal(node_of(l, more), "g");
	const char *second = lab_submit(l, JOB(1, ", \"gpus\": 1"));
	assert_string_equal(lab_state(l, second), "NotStarted");
}

// 0.1 + 0.2 + 0.3 is more than 0.6 in binary fractions.
static void test_fractions(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, "");
	const char *runs[] = {lab_submit(l, JOB(0.1, "")), lab_submit(l, JOB(0.2, "")),
		lab_submit(l, JOB(0.3, "")), lab_submit(l, JOB(0.4, ""))};
	for (size_t i = 0; i < array_size(runs); i++)
		assert_string_equal(node_of(l, runs[i]), "a");
	const char *over = lab_submit(l, JOB(0.001, ""));
	assert_string_equal(lab_state(l, over), "NotStarted");
	for (size_t i = 0; i < array_size(runs); i++) {
		lab_accept(l, a, runs[i], 1);
		end(l, a, runs[i], "");
	}
	assert_string_equal(node_of(l, over), "a");
}

static void test_order(void **state)
{
	struct lab *l = *state;
	const char *runs[20];
	for (size_t i = 0; i < 20; i++)
		runs[i] = lab_submit(l, JOB(1, ""));
	const char *a = lab_node(l, "a", 1, 0, "");
	for (size_t i = 0; i < 20; i++) {
		lab_house(l);
		for (size_t j = 0; j < 20; j++)
			assert_string_equal(lab_state(l, runs[j]), j < i    ? "Completed"
								   : j == i ? "Starting"
									    : "NotStarted");
		lab_accept(l, a, runs[i], 1);
		end(l, a, runs[i], "");
	}
}

// One that was lost has waited longest.
static void test_lost_runs_come_first(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, "");
	const char *first = lab_submit(l, JOB(1, "")), *second = lab_submit(l, JOB(1, ""));
	lab_accept(l, a, first, 1);
	lab_pass(l, LEASE + SECOND);
	lab_node(l, "b", 1, 0, "");
	lab_house(l);
	assert_string_equal(node_of(l, first), "b");
	assert_string_equal(lab_state(l, second), "NotStarted");
}

static void test_small_ones_pass_a_large_one_for_a_minute(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 4, 0, ""), *b = lab_node(l, "b", 2, 0, "");
	const char *three = lab_submit(l, JOB(3, ""));
	const char *large = lab_submit(l, JOB(4, ""));
	const char *small = lab_submit(l, JOB(1, ""));
	lab_accept(l, a, three, 1);
	assert_string_equal(lab_state(l, large), "NotStarted");
	assert_string_not_equal(node_of(l, small), "");
	int64_t until = l->now + SCHEDULE_PATIENCE_MS;
	while (l->now < until) {
		lab_pass(l, 5 * SECOND);
		lab_poll(l, a, lab_said(l, three, 1, "running", ""));
		lab_poll(l, b, "");
	}
	// Now `a` is kept for it, and `b` takes others.
	const char *later[] = {
		lab_submit(l, JOB(1, "")), lab_submit(l, JOB(1, "")), lab_submit(l, JOB(1, ""))};
	for (size_t i = 0; i < array_size(later); i++)
		assert_string_not_equal(node_of(l, later[i]), "a");
	end(l, a, three, "");
	lab_house(l);
	assert_string_equal(node_of(l, large), "a");
}

static void test_many_that_fit_nowhere_do_not_starve_others(void **state)
{
	struct lab *l = *state;
	lab_node(l, "a", 1, 0, "");
	l->c.limits.queue_max = 0;
	for (int i = 0; i < SCHEDULE_PAGE + 10; i++)
		lab_submit(l, JOB(1, ", \"gpus\": 1"));
	const char *run = lab_submit(l, JOB(1, ""));
	assert_string_equal(node_of(l, run), "a");
}

static const char with_pip[] = "{\"experiment\": \"e\", \"custom_docker_image\": \"python:3\", "
			       "\"pip_packages\": [\"numpy\"]}";
static const char with_other[] = "{\"experiment\": \"e\", \"custom_docker_image\": \"python:3\", "
				 "\"pip_packages\": [\"pandas\"]}";

static void test_nodes_with_the_environment_come_first(void **state)
{
	struct lab *l = *state;
	const char *b = lab_node(l, "b", 4, 0, ""), *first = lab_submit(l, with_pip);
	lab_accept(l, b, first, 1);
	end(l, b, first, ", \"environment\": \"sha-numpy\"");
	lab_poll_body(l, b,
		"{\"attempts\": [], \"images\": [\"python:3\"], \"environments\": "
		"[\"sha-numpy\"]}");
	lab_node(l, "a", 8, 0, ""); // emptier, and first by name
	lab_node(l, "c", 8, 0, ", \"images\": [\"python:3\"]");
	assert_string_equal(node_of(l, lab_submit(l, with_pip)), "b");
	assert_string_equal(node_of(l, lab_submit(l, with_pip)), "b");
	// Of another environment only the image is there: `b` has more taken than `c`.
	assert_string_equal(node_of(l, lab_submit(l, with_other)), "c");
	// What it has is said anew each time.
	lab_poll_body(l, b, "{\"attempts\": [], \"images\": [], \"environments\": []}");
	assert_string_equal(node_of(l, lab_submit(l, with_pip)), "c");
}

static void test_a_full_node_with_the_environment_is_not_waited_for(void **state)
{
	struct lab *l = *state;
	const char *b = lab_node(l, "b", 1, 0, ""), *first = lab_submit(l, with_pip);
	lab_accept(l, b, first, 1);
	lab_poll_body(l, b,
		arena_printf(&l->arena, "{\"attempts\": [%s], \"environments\": [\"sha-numpy\"]}",
			lab_said(l, first, 1, "running", ", \"environment\": \"sha-numpy\"")));
	lab_node(l, "a", 1, 0, "");
	assert_string_equal(node_of(l, lab_submit(l, with_pip)), "a");
}

static void test_the_emptier_node(void **state)
{
	struct lab *l = *state;
	lab_node(l, "a", 4, 0, "");
	lab_node(l, "b", 4, 0, "");
	int64_t on_a = 0;
	for (int i = 0; i < 6; i++)
		on_a += streq(node_of(l, lab_submit(l, JOB(1, ""))), "a");
	assert_int_equal(on_a, 3);
}

static int drain_in(struct database_tx *tx, void *data, struct error *err)
{
	struct lab_work *w = data;
	return node_drain(tx, &w->lab->arena, w->a, w->flag, err);
}

static void test_who_gets_nothing(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 4, 0, "");
	struct lab_work w = {.a = a, .flag = true};
	lab_do(l, drain_in, &w);
	const char *run = lab_submit(l, JOB(1, ""));
	assert_string_equal(lab_state(l, run), "NotStarted");
	assert_true(json_get(lab_poll(l, a, ""), "drain")->boolean);
	w.flag = false;
	lab_do(l, drain_in, &w);
	lab_poll_body(l, a, "{\"attempts\": [], \"draining\": true}"); // of its own will
	lab_house(l);
	assert_string_equal(lab_state(l, run), "NotStarted");
	lab_poll(l, a, "");
	l->now += LEASE + 1; // it has not been heard
	lab_house(l);
	assert_string_equal(lab_state(l, run), "NotStarted");
	lab_poll(l, a, "");
	lab_house(l);
	assert_string_equal(node_of(l, run), "a");
	lab_join(l, "silent"); // never heard
	assert_string_equal(lab_state(l, lab_submit(l, JOB(4, ""))), "NotStarted");
	w.a = "nonsense";
	assert_int_equal(lab_try(l, drain_in, &w), -1);
	assert_int_equal(l->err.kind, ERROR_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		lab_test(test_slots),
		lab_test(test_memory_and_gpus),
		lab_test(test_fractions),
		lab_test(test_order),
		lab_test(test_lost_runs_come_first),
		lab_test(test_small_ones_pass_a_large_one_for_a_minute),
		lab_test(test_many_that_fit_nowhere_do_not_starve_others),
		lab_test(test_nodes_with_the_environment_come_first),
		lab_test(test_a_full_node_with_the_environment_is_not_waited_for),
		lab_test(test_the_emptier_node),
		lab_test(test_who_gets_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
