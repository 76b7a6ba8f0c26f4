// SPDX-License-Identifier: Apache-2.0
//
// What a fetcher that was taken over cannot do. Each call is made so that the kernel itself would
// answer something else than the filter does.
#include "oci/registry/confine.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

// No process has this number (PID_MAX_LIMIT is 2^22): the kernel says ESRCH.
#define NOBODYS_PID ((1L << 22) + 1)

static const struct {
	const char *what;
	long call, a, b, c, d;
	int expected;
} calls[] = {
	{"signal a thread of another", SYS_tgkill, NOBODYS_PID, NOBODYS_PID, 0, 0, EPERM},
	{"signal another", SYS_kill, NOBODYS_PID, 0, 0, 0, EPERM},
	{"queue a signal", SYS_rt_sigqueueinfo, NOBODYS_PID, 0, 0, 0, EPERM},
	{"queue a signal for a thread", SYS_rt_tgsigqueueinfo, NOBODYS_PID, 1, 0, 0, EPERM},
	{"limit another", SYS_prlimit64, NOBODYS_PID, 0, 0, 0, EPERM},
	{"type into the terminal", SYS_ioctl, -1, TIOCSTI, 0, 0, EPERM},
	{"type, with bits that the kernel drops", SYS_ioctl, -1, TIOCSTI | 1L << 32, 0, 0, EPERM},
	{"paste into the console", SYS_ioctl, -1, TIOCLINUX, 0, 0, EPERM},
	{"another ioctl", SYS_ioctl, -1, TIOCGWINSZ, 0, 0, EBADF},
	{"clone with flags in memory", SYS_clone3, 0, 0, 0, 0, ENOSYS},
	// Not a valid combination (EINVAL), so that without a filter no process comes of it.
	{"make a process", SYS_clone, CLONE_SIGHAND, 0, 0, 0, EPERM},
	{"start a program", SYS_execve, 0, 0, 0, 0, EPERM},
	{"trace", SYS_ptrace, 16, NOBODYS_PID, 0, 0, EPERM},
};

static void *nothing(void *data)
{
	return data;
}

// In a child: the number of the first case that was answered wrongly, 0 if none.
static int try_calls(void)
{
	struct error err = {0};
	pthread_t thread;
	if (fetcher_confine(&err) < 0)
		return 100;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		errno = 0;
		if (syscall(calls[i].call, calls[i].a, calls[i].b, calls[i].c, calls[i].d, 0L) !=
				-1 ||
			errno != calls[i].expected)
			return (int)i + 1;
	}
	// Name resolution needs threads.
	if (pthread_create(&thread, NULL, nothing, NULL) != 0 || pthread_join(thread, NULL) != 0)
		return 101;
	return syscall(SYS_tgkill, getpid(), gettid(), 0) == 0 ? 0 : 102;
}

static void refuses_what_reaches_others(void **state)
{
	(void)state;
	int status;
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(try_calls());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	int failed = WEXITSTATUS(status);
	if (failed > 0 && failed < 100)
		print_message("%s: answered otherwise\n", calls[failed - 1].what);
	assert_int_equal(failed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(refuses_what_reaches_others)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
