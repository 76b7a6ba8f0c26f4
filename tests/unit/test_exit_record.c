// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/exit_record.h"

#include "base/file.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static int dirfd = -1;

static int set_up(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/test_exit_record.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dirfd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	struct error err;
	(void)state;
	close(dirfd);
	return directory_remove(AT_FDCWD, folder, &err);
}

static void reads_what_it_writes(void **state)
{
	static const struct exit_record records[] = {
		{EXIT_EXITED, 0, 0, 1795428000123, false, false, false, 0, 0, ""},
		{EXIT_EXITED, 255, 0, 1795428000123, false, false, true, 1, 2, "stopped by ada"},
		{EXIT_SIGNALED, -1, 9, 1, true, false, false, 1ULL << 40, 1ULL << 41,
			"out of memory: \"quoted\""},
		{EXIT_SIGNALED, -1, 64, 1, false, true, false, 5, 6, ""},
		{EXIT_FAILED, -1, 0, 1, false, false, false, 0, 0, "the entry script is not there"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(records); i++) {
		struct exit_record r;
		struct error err = {0};
		memset(&r, 0xff, sizeof(r));
		if (exit_record_write(dirfd, &records[i], &err) < 0 ||
			exit_record_read(dirfd, &r, &err) < 0)
			fail_msg("%zu: %s", i, err.text);
		const struct exit_record *e = &records[i];
		assert_int_equal(r.status, e->status);
		assert_int_equal(r.exit_code, e->exit_code);
		assert_int_equal(r.signal, e->signal);
		assert_int_equal(r.ended_ms, e->ended_ms);
		assert_int_equal(r.oom_killed, e->oom_killed);
		assert_int_equal(r.timed_out, e->timed_out);
		assert_int_equal(r.stopped, e->stopped);
		assert_int_equal(r.log_bytes, e->log_bytes);
		assert_int_equal(r.log_dropped, e->log_dropped);
		assert_string_equal(r.reason, e->reason);
	}
}

#define REST                                                                                     \
	"\"ended\": \"2026-11-23T10:00:00.000Z\", \"oom_killed\": false, \"timed_out\": false, " \
	"\"stopped\": false, \"log_bytes\": 0, \"log_dropped\": 0"

static void refuses_contradictions(void **state)
{
	static const struct {
		const char *text, *error;
	} cases[] = {
		{"{\"status\": \"exited\", \"exit_code\": 0, " REST ", \"newer\": 1}", NULL},
		{"{\"status\": \"exited\", " REST "}",
			"exit.json: a job that exited has an exit_code and no signal"},
		{"{\"status\": \"exited\", \"exit_code\": 0, \"signal\": 9, " REST "}",
			"exit.json: a job that exited has an exit_code and no signal"},
		{"{\"status\": \"signaled\", \"exit_code\": 0, " REST "}",
			"exit.json: a job that was killed by a signal has a signal and no "
			"exit_code"},
		{"{\"status\": \"failed\", \"exit_code\": 0, " REST "}",
			"exit.json: a job that failed to run has neither exit_code nor signal"},
		{"{\"status\": \"gone\", " REST "}",
			"exit.json: status: must be exited, signaled or failed"},
		{"{\"status\": \"exited\", \"exit_code\": 256, " REST "}",
			"exit.json: exit_code: must be from 0 to 255"},
		{"{\"status\": \"signaled\", \"signal\": 0, " REST "}",
			"exit.json: signal: must be from 1 to 64"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct exit_record r;
		struct error err = {0};
		assert_int_equal(file_write_atomic(dirfd, "exit.json", cases[i].text,
					 strlen(cases[i].text), 0644, &err),
			0);
		int rc = exit_record_read(dirfd, &r, &err);
		if (rc != (cases[i].error ? -1 : 0) ||
			(cases[i].error && !streq(err.text, cases[i].error)))
			fail_msg("%s: %s", cases[i].text, err.text);
	}
}

static void tells_of_none(void **state)
{
	struct exit_record r;
	struct error err = {0};
	(void)state;
	assert_int_equal(exit_record_read(dirfd, &r, &err), -1);
	assert_int_equal(err.kind, ERROR_NOT_FOUND);
	assert_int_equal(file_write_atomic(dirfd, "exit.json", "{", 1, 0644, &err), 0);
	assert_int_equal(exit_record_read(dirfd, &r, &err), -1);
	assert_int_equal(err.kind, ERROR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(reads_what_it_writes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refuses_contradictions, set_up, tear_down),
		cmocka_unit_test_setup_teardown(tells_of_none, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
