// SPDX-License-Identifier: Apache-2.0
//
// This program is its own child: with an argument it does what that says (see children[]).
#include "base/file.h"
#include "base/process.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

// Reads a byte from 3 and 4 and writes them in that order to 5; then the open descriptors above 2.
static int child_descriptors(void)
{
	char bytes[2];
	if (read(3, &bytes[0], 1) != 1 || read(4, &bytes[1], 1) != 1 || write(5, bytes, 2) != 2)
		return 1;
	for (int fd = 0; fd < 256; fd++)
		if ((fcntl(fd, F_GETFD) >= 0) != (fd <= 5))
			return 10 + fd;
	struct stat st, null;
	if (stat("/dev/null", &null) < 0 || fstat(0, &st) < 0 || st.st_rdev != null.st_rdev)
		return 2;
	return 0;
}

static int child_signals(void)
{
	sigset_t blocked;
	struct sigaction action;
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	for (int i = 1; i < NSIG; i++) {
		if (sigismember(&blocked, i) == 1)
			return i;
		if (i == SIGSEGV || i == SIGBUS || i == SIGFPE)
			continue; // AddressSanitizer's, set at the start of this program
		if (sigaction(i, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
			return 100 + i;
	}
	return 0;
}

static int child_death_signal(void)
{
	int signo = 0;
	prctl(PR_GET_PDEATHSIG, &signo);
	return signo;
}

static int child_sleep(void)
{
	sleep(60);
	return 0;
}

static const struct {
	const char *name;
	int (*function)(void);
} children[] = {
	{"descriptors", child_descriptors},
	{"signals", child_signals},
	{"death-signal", child_death_signal},
	{"sleep", child_sleep},
};

static int run_child(const char *name)
{
	for (size_t i = 0; i < array_size(children); i++)
		if (streq(children[i].name, name))
			return children[i].function();
	return 99;
}

static void start_self(
	const char *what, const struct process_fd *fds, size_t count, struct process *p)
{
	struct error err = {0};
	const char *const argv[] = {"self", what, NULL};
	struct process_options o = {.argv = argv,
		.fds = fds,
		.fd_count = count,
		.keep_stderr = true,
		.die_with_parent = streq(what, "death-signal")};
	if (process_start(&o, p, &err) < 0)
		fail_msg("%s", err.text);
}

static int wait_for(struct process *p)
{
	struct error err = {0};
	int status = -1;
	if (process_wait(p, &status, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(p->pid, 0);
	assert_int_equal(p->pidfd, -1);
	return status;
}

static int run_self(const char *what)
{
	struct process p;
	start_self(what, NULL, 0, &p);
	int status = wait_for(&p);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

// Every order of three descriptors that sit on the very numbers the child wants: whatever is placed
// first would overwrite another one's source. And sources elsewhere with the wanted numbers free: a
// copy on the way must not lie where another one goes.
static void test_overlaps(void **state)
{
	(void)state;
	static const int orders[][3] = {
		{3, 4, 5}, {4, 5, 3}, {5, 3, 4}, {3, 5, 4}, {4, 3, 5}, {5, 4, 3}, {-1, -1, -1}};
	for (size_t i = 0; i < array_size(orders); i++) {
		int a[2], b[2], out[2];
		char answer[2] = "";
		assert_int_equal(pipe(a) | pipe(b) | pipe(out), 0); // not close-on-exec
		assert_int_equal(write(a[1], "a", 1) + write(b[1], "b", 1), 2);
		// Free 3, 4 and 5 of what cmocka or the pipes put there, then use them as sources.
		int source[3] = {fcntl(a[0], F_DUPFD, 20), fcntl(b[0], F_DUPFD, 20),
			fcntl(out[1], F_DUPFD, 20)};
		int kept[3];
		for (int k = 0; k < 3; k++)
			kept[k] = fcntl(3 + k, F_DUPFD_CLOEXEC, 30);
		int from[3];
		for (int k = 0; k < 3; k++)
			close(3 + k);
		for (int k = 0; k < 3; k++)
			from[k] = orders[i][k] < 0 ? source[k] : dup2(source[k], orders[i][k]);
		const struct process_fd fds[] = {{from[2], 5}, {from[1], 4}, {from[0], 3}};
		struct process p;
		start_self("descriptors", fds, 3, &p);
		for (int k = 0; k < 3; k++) {
			close(source[k]);
			close(3 + k);
			if (kept[k] >= 0) {
				dup2(kept[k], 3 + k);
				close(kept[k]);
			}
		}
		assert_int_equal(wait_for(&p), 0);
		assert_int_equal(read(out[0], answer, 2), 2);
		assert_memory_equal(answer, "ab", 2);
		for (int k = 0; k < 2; k++) {
			close(a[k]);
			close(b[k]);
			close(out[k]);
		}
	}
}

static void ignore(int signo)
{
	(void)signo;
}

static void test_signals_reset(void **state)
{
	(void)state;
	sigset_t mask;
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, ignore);
	assert_int_equal(run_self("signals"), 0);
	// Ours are as they were.
	assert_true(signal(SIGPIPE, SIG_DFL) == SIG_IGN);
	assert_true(signal(SIGUSR1, SIG_DFL) == ignore);
	sigset_t now;
	sigprocmask(SIG_UNBLOCK, &mask, &now);
	assert_int_equal(sigismember(&now, SIGTERM), 1);
}

static void test_death_signal(void **state)
{
	(void)state;
	assert_int_equal(run_self("death-signal"), SIGKILL);
}

static void test_release(void **state)
{
	(void)state;
	struct process p, none = {0};
	start_self("sleep", NULL, 0, &p);
	pid_t pid = p.pid;
	struct pollfd ended = {.fd = p.pidfd, .events = POLLIN};
	assert_int_equal(poll(&ended, 1, 0), 0);
	assert_int_equal(fcntl(p.pidfd, F_GETFD), FD_CLOEXEC);
	process_release(&p);
	assert_int_equal(kill(pid, 0), -1);
	process_release(&p);
	process_release(&none);
	assert_true(fcntl(0, F_GETFD) >= 0); // a zeroed structure does not own descriptor 0
}

// Somebody else reaped it: said, and forgotten, so that release cannot hit another process.
static void test_reaped_elsewhere(void **state)
{
	(void)state;
	struct error err = {0};
	struct process p;
	int status = -1;
	char text[64];
	start_self("signals", NULL, 0, &p);
	snprintf(text, sizeof(text), "wait for process %d: No child processes", (int)p.pid);
	assert_int_equal(waitpid(p.pid, NULL, 0), p.pid);
	assert_int_equal(process_wait(&p, &status, &err), -1);
	assert_string_equal(err.text, text);
	assert_int_equal(p.pid, 0);
	assert_int_equal(p.pidfd, -1);
}

static void test_start_failures(void **state)
{
	(void)state;
	static const struct {
		const char *file;
		enum error_kind kind;
		const char *text;
	} cases[] = {
		{"/nonexistent/program", ERROR_NOT_FOUND,
			"start /nonexistent/program: No such file or directory"},
		{"no-such-program", ERROR_NOT_FOUND, "program no-such-program is not in PATH"},
		{"/etc", ERROR_DENIED, "start /etc: Permission denied"},
	};
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err = {0};
		struct process p = {.pid = -5};
		const char *const argv[] = {"x", NULL};
		struct process_options o = {.file = cases[i].file, .argv = argv};
		assert_int_equal(process_start(&o, &p, &err), -1);
		assert_int_equal(err.kind, cases[i].kind);
		assert_string_equal(err.text, cases[i].text);
		assert_int_equal(p.pid, -5);
		assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); // nothing left to reap
	}
	struct error err = {0};
	struct process p;
	const char *const argv[] = {"true", NULL};
	const struct process_fd bad = {-1, 3};
	struct process_options o = {.file = "true", .argv = argv, .fds = &bad, .fd_count = 1};
	assert_int_equal(process_start(&o, &p, &err), -1);
	assert_int_equal(err.sys, EBADF);
}

static void test_environment(void **state)
{
	(void)state;
	struct error err = {0};
	int fds[2];
	char text[16] = "";
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	const char *const argv[] = {"sh", "-c", "printf %s $COLOUR", NULL};
	const char *const envp[] = {"COLOUR=green", NULL};
	const struct process_fd out = {fds[1], 1};
	struct process_options o = {
		.file = "sh", .argv = argv, .envp = envp, .fds = &out, .fd_count = 1};
	cleanup_process struct process p = {0};
	assert_int_equal(process_start(&o, &p, &err), 0);
	close(fds[1]);
	assert_int_equal(read(fds[0], text, sizeof(text) - 1), 5);
	assert_string_equal(text, "green");
	close(fds[0]);
}

static void test_run(void **state)
{
	(void)state;
	static const struct {
		const char *script, *input;
		size_t limit;
		int timeout_ms;
		const char *output; // NULL: fails
		enum error_kind kind;
		const char *error;
	} cases[] = {
		{"cat", "hello", 5, 5000, "hello", ERROR_NONE, NULL},
		{"cat", NULL, 5, 0, "", ERROR_NONE, NULL},
		{"exit 0", "not read", 0, 5000, "", ERROR_NONE, NULL},
		{"echo noise >&2; echo ok", NULL, 99, 5000, "ok\n", ERROR_NONE, NULL},
		{"cat", "hello", 4, 5000, NULL, ERROR_LIMIT,
			"sh: wrote more than the limit of 4 bytes"},
		{"exec sleep 60", NULL, 9, 30, NULL, ERROR_LIMIT, "sh: took longer than 30 ms"},
		{"echo one; echo why >&2; echo because >&2; exit 3", NULL, 99, 5000, NULL,
			ERROR_SYSTEM, "sh exited with status 3: why because"},
		{"kill -9 $$", NULL, 99, 5000, NULL, ERROR_SYSTEM,
			"sh was killed by signal 9 (Killed)"},
		{"sleep 3 & echo left", NULL, 99, 2000, "left\n", ERROR_NONE, NULL},
	};
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err = {0};
		cleanup_buffer struct buffer output = {0};
		buffer_puts(&output, "before ");
		const char *const argv[] = {"sh", "-c", cases[i].script, NULL};
		int result = process_run(
			argv, cases[i].input, &output, cases[i].limit, cases[i].timeout_ms, &err);
		if (cases[i].output && result < 0)
			fail_msg("%s: %s", cases[i].script, err.text);
		assert_int_equal(result, cases[i].output ? 0 : -1);
		assert_memory_equal(output.data, "before ", 7);
		assert_string_equal(output.data + 7, cases[i].output ? cases[i].output : "");
		assert_int_equal(err.kind, cases[i].kind);
		assert_string_equal(err.text, cases[i].error ? cases[i].error : "");
	}
}

// More input and output at once than any pipe holds, and a stderr that is larger than what is kept.
static void test_run_large(void **state)
{
	(void)state;
	enum { SIZE = 4 << 20 };
	struct error err = {0};
	cleanup_buffer struct buffer output = {0};
	cleanup_free char *input = xcalloc(1, SIZE + 1);
	memset(input, 'x', SIZE);
	const char *const argv[] = {"tee", "/dev/stderr", NULL};
	if (process_run(argv, input, &output, SIZE, 20000, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(output.size, SIZE);
	assert_memory_equal(output.data, input, SIZE);
}

static void test_describe(void **state)
{
	(void)state;
	char text[64];
	assert_string_equal(process_describe_status(3 << 8, text), "exited with status 3");
	assert_string_equal(
		process_describe_status(11, text), "was killed by signal 11 (Segmentation fault)");
	assert_string_equal(process_describe_status(50, text), "was killed by signal 50 (unknown)");
	assert_string_equal(process_describe_status(0x137f, text), "ended with wait status 0x137f");
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return run_child(argv[1]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_overlaps),
		cmocka_unit_test(test_signals_reset),
		cmocka_unit_test(test_death_signal),
		cmocka_unit_test(test_release),
		cmocka_unit_test(test_reaped_elsewhere),
		cmocka_unit_test(test_start_failures),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_run),
		cmocka_unit_test(test_run_large),
		cmocka_unit_test(test_describe),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
