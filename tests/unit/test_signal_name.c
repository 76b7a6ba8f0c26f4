// SPDX-License-Identifier: Apache-2.0
#include "agent/job/signal_name.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_parse(void **state)
{
	(void)state;
	const struct {
		const char *name;
		int signo;
	} cases[] = {
		{"TERM", SIGTERM},
		{"SIGTERM", SIGTERM},
		{"sigterm", SIGTERM},
		{"15", 15},
		{"KILL", SIGKILL},
		{"USR1", SIGUSR1},
		{"RTMIN", SIGRTMIN},
		{"SIGRTMIN+3", SIGRTMIN + 3},
		{"RTMAX", SIGRTMAX},
		{"RTMAX-1", SIGRTMAX - 1},
		{"64", 64},
		{"0", -1},
		{"65", -1},
		{"-1", -1},
		{"", -1},
		{"SIG", -1},
		{"NOPE", -1},
		{"TERMX", -1},
		{"RTMIN+", -1},
		{"RTMIN+63", -1},
		{"RTMIN3", -1},
		{"RTMAX-99", -1},
		{"9999999999999999999999", -1},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (signal_parse(cases[i].name) != cases[i].signo)
			fail_msg("\"%s\" is %d", cases[i].name, signal_parse(cases[i].name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_parse)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
