// SPDX-License-Identifier: Apache-2.0
#include "agent/job/identity.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void test_boot(void **state)
{
	(void)state;
	char id[BOOT_ID_SIZE], again[BOOT_ID_SIZE];
	boot_id_get(id);
	boot_id_get(again);
	assert_int_equal(strlen(id), 36);
	assert_string_equal(id, again);
}

// Whatever a process calls itself, its line is read from behind that.
static void test_start_time(void **state)
{
	(void)state;
	uint64_t start = process_start_time(getpid());
	assert_int_not_equal(start, 0);
	prctl(PR_SET_NAME, "a) R 1 2 3 (b");
	assert_int_equal(process_start_time(getpid()), start);
	assert_int_equal(process_start_time(0x7FFFFFFF), 0);
}

static void test_find(void **state)
{
	(void)state;
	pid_t child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	uint64_t start = process_start_time(child);
	cleanup_fd int fd = process_find(child, start);
	assert_true(fd >= 0);
	assert_int_equal(process_find(child, start + 1), -1);
	assert_int_equal(process_find(child, 0), -1);
	assert_int_equal(process_find(0, start), -1);
	kill(child, 9);
	waitpid(child, NULL, 0);
	assert_int_equal(process_find(child, start), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_boot),
		cmocka_unit_test(test_start_time), cmocka_unit_test(test_find)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
