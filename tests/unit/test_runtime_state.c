// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/state.h"

#include "base/file.h"
#include "base/text.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static int setup(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "/tmp/test_runtime_state.XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	struct error err = {0};
	(void)state;
	return directory_remove(AT_FDCWD, root, &err);
}

static void checks_ids(void **state)
{
	static const char *const good[] = {"a", "A_b+c-d.e", "..a", "0"};
	static const char *const bad[] = {"", ".", "..", "a/b", "a b", "\xc3\xa4", "a\n"};
	struct error err = {0};
	char longest[RUNTIME_ID_MAX + 2];

	(void)state;
	for (size_t i = 0; i < array_size(good); i++)
		assert_int_equal(runtime_id_check(good[i], &err), 0);
	for (size_t i = 0; i < array_size(bad); i++)
		assert_int_equal(runtime_id_check(bad[i], &err), -1);
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(runtime_id_check(longest, &err), -1);
	assert_int_equal(err.kind, ERROR_INVALID);
	longest[RUNTIME_ID_MAX] = '\0';
	assert_int_equal(runtime_id_check(longest, &err), 0);
}

static struct runtime_state sample(void)
{
	static struct json_pair pair = {"a", "b \"c\""};
	return (struct runtime_state){.id = "x",
		.bundle = "/b",
		.rootfs = "/b/rootfs",
		.created = "2026-01-01T00:00:00.000Z",
		.cgroup = "/g/x",
		.annotations = {.items = &pair, .count = 1},
		.status = RUNTIME_RUNNING,
		.owner = 7};
}

static void remembers(void **state)
{
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	struct runtime_state s = sample(), again;

	(void)state;
	cleanup_fd int folder = runtime_state_create(root, "x", &err);
	assert_true(folder >= 0);
	assert_int_equal(runtime_state_set_process(&s, getpid(), &err), 0);
	assert_int_equal(runtime_state_save(folder, &s, &err), 0);
	cleanup_fd int opened = runtime_state_open(root, "x", &err);
	assert_int_equal(runtime_state_load(opened, "x", &a, &again, &err), 0);
	assert_string_equal(again.id, "x");
	assert_string_equal(again.bundle, "/b");
	assert_string_equal(again.rootfs, "/b/rootfs");
	assert_string_equal(again.created, s.created);
	assert_string_equal(again.cgroup, "/g/x");
	assert_string_equal(again.annotations.items[0].value, "b \"c\"");
	assert_int_equal(again.pid, getpid());
	assert_true(again.start_time == s.start_time && s.start_time > 0);
	assert_int_equal(again.owner, 7);
	assert_int_equal(runtime_state_status(&again), RUNTIME_RUNNING);
	cleanup_fd int pidfd = runtime_state_pidfd(&again, &err);
	assert_true(pidfd >= 0);
}

static void names_are_taken(void **state)
{
	struct error err = {0};
	cleanup_arena struct arena a = {0};
	struct json_strings ids;

	(void)state;
	close(runtime_state_create(root, "two", &err));
	assert_int_equal(runtime_state_create(root, "two", &err), -1);
	assert_string_equal(err.text, "there is a container with the id \"two\" already");
	close(runtime_state_create(root, "one", &err));
	assert_int_equal(runtime_state_list(root, &a, &ids, &err), 0);
	assert_true(ids.count >= 2);
	for (size_t i = 1; i < ids.count; i++)
		assert_true(strcmp(ids.items[i - 1], ids.items[i]) < 0);
	assert_int_equal(runtime_state_remove(root, "two", &err), 0);
	assert_int_equal(runtime_state_open(root, "two", &err), -1);
	assert_int_equal(err.kind, ERROR_NOT_FOUND);
	assert_string_equal(err.text, "there is no container with the id \"two\"");
	assert_int_equal(runtime_state_list("/nonexistent/x", &a, &ids, &err), 0);
	assert_int_equal(ids.count, 0);
}

static void locks(void **state)
{
	struct error err = {0};

	(void)state;
	cleanup_fd int folder = runtime_state_create(root, "locked", &err);
	cleanup_fd int other = runtime_state_open(root, "locked", &err);
	assert_int_equal(file_lock(other, LOCK_EX | LOCK_NB, "x", &err), 1);
	// A child that keeps the descriptor does not keep the lock.
	int copy = dup(folder);
	runtime_state_unlock(folder);
	assert_int_equal(file_lock(other, LOCK_EX | LOCK_NB, "x", &err), 0);
	close(copy);
}

// A process of the same number that began at another time is another one.
static void tells_processes_apart(void **state)
{
	struct error err = {0};
	struct runtime_state s = sample();

	(void)state;
	assert_int_equal(runtime_state_set_process(&s, getpid(), &err), 0);
	assert_int_equal(runtime_state_status(&s), RUNTIME_RUNNING);
	s.start_time--;
	assert_int_equal(runtime_state_status(&s), RUNTIME_STOPPED);
	assert_int_equal(runtime_state_pidfd(&s, &err), -1);
	assert_string_equal(err.text, "the process of x has ended");
}

static void dead_is_stopped(void **state)
{
	struct error err = {0};
	struct runtime_state s = sample();

	(void)state;
	s.status = RUNTIME_CREATED;
	pid_t pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	assert_int_equal(runtime_state_set_process(&s, pid, &err), 0);
	assert_int_equal(runtime_state_status(&s), RUNTIME_CREATED);
	kill(pid, SIGKILL);
	siginfo_t info;
	waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT); // a zombie is dead too
	assert_int_equal(runtime_state_status(&s), RUNTIME_STOPPED);
	waitpid(pid, NULL, 0);
	assert_int_equal(runtime_state_status(&s), RUNTIME_STOPPED);
	assert_int_equal(runtime_state_set_process(&s, pid, &err), -1);
}

static void a_broken_create_is_stopped(void **state)
{
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	struct runtime_state s;

	(void)state;
	cleanup_fd int folder = runtime_state_create(root, "broken", &err);
	assert_int_equal(runtime_state_load(folder, "broken", &a, &s, &err), 0);
	assert_int_equal(runtime_state_status(&s), RUNTIME_STOPPED);
	assert_string_equal(s.bundle, "");
	assert_int_equal(file_write_atomic(folder, "state.json", "{}", 2, 0600, &err), 0);
	assert_int_equal(runtime_state_load(folder, "broken", &a, &s, &err), -1);
	assert_string_equal(err.text, "state.json: key \"bundle\" is missing");
}

static void writes_documents(void **state)
{
	cleanup_buffer struct buffer text = {0};
	struct error err = {0};
	struct runtime_state s = sample();

	(void)state;
	assert_int_equal(runtime_state_document(&s, RUNTIME_CREATING, 5, false, &text, &err), 0);
	assert_string_equal(text.data,
		"{\"ociVersion\":\"1.2.1\",\"id\":\"x\",\"status\":\"creating\",\"pid\":5,"
		"\"bundle\":\"/b\",\"annotations\":{\"a\":\"b \\\"c\\\"\"}}");
	buffer_clear(&text);
	assert_int_equal(runtime_state_document(&s, RUNTIME_STOPPED, 0, true, &text, &err), 0);
	assert_non_null(strstr(text.data, "\"status\": \"stopped\""));
	assert_non_null(strstr(text.data, "\"rootfs\": \"/b/rootfs\""));
	assert_null(strstr(text.data, "\"pid\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checks_ids),
		cmocka_unit_test(remembers),
		cmocka_unit_test(names_are_taken),
		cmocka_unit_test(locks),
		cmocka_unit_test(tells_processes_apart),
		cmocka_unit_test(dead_is_stopped),
		cmocka_unit_test(a_broken_create_is_stopped),
		cmocka_unit_test(writes_documents),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
