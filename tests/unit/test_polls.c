// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/state_lab.h"

static const char job[] = "{\"experiment\": \"e\"}";

#define ENDED ", \"result\": \"Completed\""

static const char *said_at(
	struct lab *l, const char *run, const char *state, int64_t sequence, const char *more)
{
	return arena_printf(&l->arena,
		"{\"run\": \"%s\", \"attempt\": 1, \"sequence\": %lld, \"state\": \"%s\"%s}", run,
		(long long)sequence, state, more);
}

// Which answer reaches the node is not known: it may be any of them.
static void test_repeated_starts(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job), *tokens[5];
	for (size_t i = 0; i < array_size(tokens); i++) {
		const struct json *start = lab_start(lab_poll(l, a, ""), run);
		assert_non_null(start);
		assert_int_equal(json_get_integer(start, "attempt", 0), 1);
		tokens[i] = json_get_string(start, "token");
		const char *of_job = json_get_string(start, "job_token");
		assert_true(lab_may(l, of_job, run, ACCESS_METRICS));
		assert_false(lab_may(l, of_job, run, ACCESS_WRITE));
	}
	assert_int_equal(
		lab_count(lab_poll(l, a, lab_said(l, run, 1, "accepted", "")), "starts"), 0);
	for (size_t i = 0; i < array_size(tokens); i++)
		assert_true(lab_may(l, tokens[i], run, ACCESS_WRITE));
	lab_poll(l, a, lab_said(l, run, 1, "ended", ENDED));
	for (size_t i = 0; i < array_size(tokens); i++)
		assert_true(lab_is_stale(l, tokens[i], run, ACCESS_WRITE));
}

static void test_very_many_repeated_starts(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job), *token = NULL;
	for (int i = 0; i < 100; i++)
		token = json_get_string(lab_start(lab_poll(l, a, ""), run), "token");
	assert_true(lab_may(l, token, run, ACCESS_WRITE));
	assert_true(lab_number(l, "SELECT COUNT(*) FROM token WHERE run = ?1", run) <= 2 * 16 + 2);
}

// A report says that it was accepted, and the poll that crossed it does not yet.
static void test_accepted_by_report(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	assert_non_null(lab_start(lab_poll(l, a, ""), run));
	lab_report(l, a, lab_said(l, run, 1, "accepted", ""));
	assert_null(lab_start(lab_poll(l, a, ""), run));
	assert_string_equal(lab_state(l, run), "Preparing");
}

static void test_restore_and_place(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	const struct json *answer = lab_poll(l, a, ""), *start = lab_start(answer, run);
	assert_true(json_get_integer(answer, "lease_ms", 0) == LEASE);
	assert_true(json_get_integer(answer, "time", 0) == l->now);
	assert_false(json_get(start, "restore")->boolean);
	assert_string_equal(json_get_string(json_get(start, "job"), "experiment"), "e");
	assert_string_equal(json_get_string(start, "experiment"), "e");
	// Another node is told nothing of it, and may not accept it.
	const char *b = lab_node(l, "b", 1, 0, "");
	assert_int_equal(lab_count(lab_poll(l, b, ""), "starts"), 0);
	assert_int_equal(
		lab_count(lab_poll(l, b, lab_said(l, run, 1, "accepted", "")), "stale"), 1);
	assert_string_equal(lab_state(l, run), "Starting");
}

// Reports and polls may cross.
static void test_older_words_are_passed_over(void **state)
{
	struct lab *l = *state;
	static const struct {
		const char *state, *phase, *shown, *shown_phase;
		int64_t sequence;
	} words[] = {
		{"preparing", "pulling", "Preparing", "pulling", 100},
		{"preparing", "solving", "Preparing", "solving", 101},
		{"preparing", "pulling", "Preparing", "solving", 100},
		{"running", "script", "Running", "script", 102},
		{"preparing", "solving", "Running", "script", 101},
		{"accepted", "", "Running", "script", 90},
		// The clock was set back, and the agent started anew: states go on.
		{"finalizing", "upload", "Finalizing", "upload", 7},
		{"running", "script", "Finalizing", "upload", 6},
		{"finalizing", "more", "Finalizing", "more", 8},
	};
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	lab_poll(l, a, "");
	lab_poll(l, a, said_at(l, run, "accepted", 90, ""));
	for (size_t i = 0; i < array_size(words); i++) {
		lab_report(l, a,
			said_at(l, run, words[i].state, words[i].sequence,
				arena_printf(&l->arena, ", \"phase\": \"%s\"", words[i].phase)));
		const struct json *shown = lab_run(l, run);
		assert_string_equal(json_get_string(shown, "state"), words[i].shown);
		assert_string_equal(json_get_string(shown, "phase"), words[i].shown_phase);
	}
	lab_report(l, a, said_at(l, run, "ended", 1, ENDED));
	assert_string_equal(lab_state(l, run), "Completed");
}

// The node's own retries begin again with preparing.
static void test_retries_on_the_node(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	lab_accept(l, a, run, 1);
	lab_report(l, a, lab_said(l, run, 1, "finalizing", ""));
	lab_report(l, a, lab_said(l, run, 1, "preparing", ", \"retries\": 1"));
	assert_string_equal(lab_state(l, run), "Preparing");
	lab_report(l, a, lab_said(l, run, 1, "running", "")); // of the one before
	assert_string_equal(lab_state(l, run), "Preparing");
	lab_report(l, a, lab_said(l, run, 1, "running", ", \"retries\": 1"));
	assert_string_equal(lab_state(l, run), "Running");
	// One that ends without words of its retries ends all the same.
	lab_report(l, a, lab_said(l, run, 1, "ended", ENDED));
	assert_string_equal(lab_state(l, run), "Completed");
}

// An end is said until it is known, also by an agent that has started since and counts anew.
static void test_known(void **state)
{
	struct lab *l = *state;
	static const int64_t sequences[] = {100, 100, 5, 100000};
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	lab_poll(l, a, "");
	lab_poll(l, a, said_at(l, run, "running", 99, ""));
	for (size_t i = 0; i < array_size(sequences); i++) {
		const struct json *answer =
			lab_poll(l, a, said_at(l, run, "ended", sequences[i], ENDED));
		assert_int_equal(lab_count(answer, "stale"), 0);
		assert_int_equal(lab_count(answer, "known"), 1);
		const struct json *known = &json_get(answer, "known")->members[0].value;
		assert_true(json_get_integer(known, "sequence", 0) >= sequences[i]);
	}
	// A second end does not change the first.
	lab_poll(l, a, said_at(l, run, "ended", 100001, ", \"result\": \"Failed\""));
	assert_string_equal(lab_state(l, run), "Completed");
	// Once it is forgotten nothing is said of it.
	const struct json *answer = lab_poll(l, a, "");
	assert_int_equal(lab_count(answer, "known") + lab_count(answer, "stale"), 0);
	// A run that is there no more, or never was.
	answer = lab_poll(l, a, lab_said(l, "nonsense", 1, "running", ""));
	assert_int_equal(lab_count(answer, "stale"), 1);
}

static void test_environment_is_learned(void **state)
{
	struct lab *l = *state;
	const char *a = lab_node(l, "a", 1, 0, ""), *run = lab_submit(l, job);
	lab_accept(l, a, run, 1);
	for (int i = 0; i < 2; i++)
		lab_report(l, a, lab_said(l, run, 1, "running", ", \"environment\": \"k\""));
	assert_int_equal(lab_number(l, "SELECT COUNT(*) FROM environment WHERE name = ?1", "k"), 1);
}

static void test_what_is_refused(void **state)
{
	struct lab *l = *state;
	static const char start[] = "{\"attempts\": [{\"run\": \"r\", \"attempt\": ";
	static const char *const bad[] = {
		"{}",
		"{\"attempts\": {}}",
		"{\"attempts\": [], \"more\": 1}",
		"0, \"sequence\": 1, \"state\": \"running\"}]}",
		"1, \"sequence\": -1, \"state\": \"running\"}]}",
		"1, \"sequence\": 1, \"state\": \"lost\"}]}",
		"1, \"sequence\": 1, \"state\": \"assigned\"}]}",
		"1, \"sequence\": 1, \"state\": \"ended\"}]}",
		"1, \"sequence\": 1, \"state\": \"ended\", \"result\": \"NotStarted\"}]}",
		"1, \"sequence\": 1, \"state\": \"running\", \"cause\": []}]}",
		"1, \"state\": \"running\"}]}",
		"{\"attempts\": [], \"resources\": {\"cpus\": -1, \"memory\": 1}}",
		"{\"attempts\": [], \"resources\": {\"cpus\": 1}}",
		"{\"attempts\": [], \"resources\": {\"cpus\": 1, \"memory\": 1e300}}",
		"{\"attempts\": [], \"images\": [1]}",
	};
	struct poll p;
	for (size_t i = 0; i < array_size(bad); i++) {
		const char *text =
			*bad[i] == '{' ? bad[i] : arena_printf(&l->arena, "%s%s", start, bad[i]);
		if (poll_decode(&l->arena, lab_json(l, text), false, &p, &l->err) == 0)
			fail_msg("%s", text);
		assert_int_equal(l->err.kind, ERROR_INVALID);
	}
	const struct json *poll = lab_json(l, "{\"attempts\": [], \"wait_ms\": 99999999}");
	assert_int_equal(poll_decode(&l->arena, poll, false, &p, &l->err), 0);
	assert_int_equal(p.wait_ms, POLL_WAIT_MS_MAX);
	assert_int_equal(poll_decode(&l->arena, poll, true, &p, &l->err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		lab_test(test_repeated_starts),
		lab_test(test_very_many_repeated_starts),
		lab_test(test_accepted_by_report),
		lab_test(test_restore_and_place),
		lab_test(test_older_words_are_passed_over),
		lab_test(test_retries_on_the_node),
		lab_test(test_known),
		lab_test(test_environment_is_learned),
		lab_test(test_what_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
