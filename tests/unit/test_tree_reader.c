// SPDX-License-Identifier: Apache-2.0
//
// What the reader of a tree can still do when a stranger has taken it over. Each attempt is made in
// a process of its own, confined like it.
#include "base/file.h"
#include "oci/layer/worker_confine.h"

#include <linux/landlock.h>
#include <linux/openat2.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { REFUSED = 1, CONFINEMENT_FAILED = 99 };

static char folder[] = "test_tree_reader.XXXXXX";
static int tree = -1;

// Its return value is the process's exit status: 0, it could.
typedef int attempt_fn(void);

static int open_as(const char *path, int flags)
{
	const struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC)};
	return syscall(SYS_openat2, tree, path, &how, sizeof(how)) < 0 ? REFUSED : 0;
}

static int read_inside(void)
{
	return open_as("sub/file", O_RDONLY);
}

static int write_inside(void)
{
	return open_as("sub/file", O_WRONLY);
}

static int read_outside(void)
{
	return open_as("/etc/passwd", O_RDONLY);
}

static int climb_outside(void)
{
	return open_as("../test_tree_reader.outside", O_RDONLY);
}

static int remove_inside(void)
{
	return unlinkat(tree, "sub/file", 0) < 0 ? REFUSED : 0;
}

static int make_socket(void)
{
	return (int)syscall(SYS_socket, 2, 1, 0) < 0 ? REFUSED : 0;
}

static int open_plainly(void)
{
	return (int)syscall(SYS_openat, tree, "sub/file", O_RDONLY) < 0 ? REFUSED : 0;
}

// The exit status, or 128 and the signal.
static int outcome(attempt_fn *attempt)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct error err;
		if (confine_privileges(CONFINE_TREE, tree, &err) < 0 ||
			confine_system_calls(CONFINE_TREE, 3, &err) < 0)
			_exit(CONFINEMENT_FAILED);
		_exit(attempt());
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int make_tree(void **state)
{
	(void)state;
	struct error err;
	assert_non_null(mkdtemp(folder));
	tree = directory_open(AT_FDCWD, folder, &err);
	assert_true(tree >= 0);
	assert_int_equal(mkdirat(tree, "sub", 0700), 0);
	int fd = openat(tree, "sub/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, 0666), 0);
	close(fd);
	fd = open("test_tree_reader.outside", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	close(fd);
	return 0;
}

static int remove_tree(void **state)
{
	(void)state;
	struct error err;
	close(tree);
	unlink("test_tree_reader.outside");
	return directory_remove(AT_FDCWD, folder, &err);
}

static void reads_its_tree_and_nothing_else(void **state)
{
	static const struct {
		const char *name;
		attempt_fn *attempt;
		int expected;
		bool by_landlock; // alone
	} cases[] = {
		{"read inside", read_inside, 0, false},
		{"write inside", write_inside, REFUSED, true},
		{"read outside", read_outside, REFUSED, false},
		{"climb outside", climb_outside, REFUSED, false},
		{"remove inside", remove_inside, 128 + SIGSYS, false},
		{"a socket", make_socket, 128 + SIGSYS, false},
		{"openat", open_plainly, 128 + SIGSYS, false},
	};
	(void)state;
	bool landlock =
		syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >= 2;
	bool root = geteuid() == 0;
	for (size_t i = 0; i < array_size(cases); i++) {
		if (!landlock && (cases[i].by_landlock || !root))
			continue; // this kernel holds it by its system calls alone
		int got = outcome(cases[i].attempt);
		if (got != cases[i].expected)
			fail_msg("%s: %d", cases[i].name, got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			reads_its_tree_and_nothing_else, make_tree, remove_tree),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
