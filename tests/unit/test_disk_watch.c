// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/disk_watch.h"

#include "agent/supervise/disk_walk.h"
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int make_folder(void **state)
{
	static char path[64];
	struct error err;
	snprintf(path, sizeof(path), "/tmp/test_disk_watch.%d", (int)getpid());
	directory_remove(AT_FDCWD, path, &err);
	if (mkdir(path, 0700) < 0)
		return -1;
	*state = path;
	return 0;
}

static int remove_folder(void **state)
{
	struct error err;
	return directory_remove(AT_FDCWD, *state, &err);
}

static void write_file(int folder, const char *name, size_t size)
{
	static const char zeros[64 * 1024] = {1};
	int fd = openat(folder, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	for (; size > sizeof(zeros); size -= sizeof(zeros))
		assert_int_equal(write(fd, zeros, sizeof(zeros)), sizeof(zeros));
	assert_int_equal(write(fd, zeros, size), size);
	assert_int_equal(fsync(fd), 0); // now it has its blocks
	close(fd);
}

static uint64_t count(int folder, unsigned step)
{
	static struct disk_walk w;
	struct error err;
	assert_int_equal(disk_walk_begin(&w, folder, &err), 0);
	while (!disk_walk_step(&w, step))
		;
	return w.bytes;
}

enum { FILE_SIZE = 128 * 1024, FILES = 300 };

// The same sum, whatever the steps; with folders in between, so that a level is gone on with after
// the one below it.
static void test_walk(void **state)
{
	struct error err;
	cleanup_fd int top = directory_open(AT_FDCWD, *state, &err);
	uint64_t empty = count(top, 1);
	for (int i = 0; i < FILES; i++) {
		char name[64];
		snprintf(name, sizeof(name), "%s%d", i % 3 ? "a-long-name-for-full-buffers-" : "d",
			i);
		if (i % 3)
			write_file(top, name, 100);
		else
			assert_int_equal(mkdirat(top, name, 0700), 0);
	}
	cleanup_fd int below = directory_open(top, "d150", &err);
	write_file(below, "one", FILE_SIZE);
	write_file(top, "two", FILE_SIZE);
	uint64_t all = count(top, 1);
	assert_int_equal(all, count(top, 7));
	assert_int_equal(all, count(top, 1000000));
	assert_true(all >= empty + 2 * FILE_SIZE);
	assert_true(all < empty + 2 * FILE_SIZE + FILES * 8192 + 65536);
}

// Names of one file count once; what a link leads to does not count.
static void test_links(void **state)
{
	struct error err;
	cleanup_fd int top = directory_open(AT_FDCWD, *state, &err);
	write_file(top, "file", FILE_SIZE);
	uint64_t one = count(top, 10);
	assert_int_equal(linkat(top, "file", top, "again", 0), 0);
	assert_in_range(count(top, 10), one, one + 8192);
	assert_int_equal(symlinkat("/usr", top, "out"), 0);
	assert_in_range(count(top, 10), one, one + 8192);
}

// Deeper than we follow: the walk ends all the same.
static void test_depth(void **state)
{
	struct error err;
	int at = directory_open(AT_FDCWD, *state, &err);
	for (int i = 0; i < DISK_WALK_DEPTH + 20; i++) {
		assert_int_equal(mkdirat(at, "d", 0700), 0);
		int next = directory_open(at, "d", &err);
		close(at);
		at = next;
	}
	close(at);
	cleanup_fd int top = directory_open(AT_FDCWD, *state, &err);
	assert_true(count(top, 3) > 0);
}

// Broken off in the midst, nothing stays open.
static void test_break(void **state)
{
	static struct disk_walk w;
	struct error err;
	cleanup_fd int top = directory_open(AT_FDCWD, *state, &err);
	assert_int_equal(mkdirat(top, "d", 0700), 0);
	int before = dup(0);
	close(before);
	assert_int_equal(disk_walk_begin(&w, top, &err), 0);
	disk_walk_step(&w, 2);
	disk_walk_end(&w);
	int after = dup(0);
	close(after);
	assert_int_equal(before, after);
}

static void test_interval(void **state)
{
	(void)state;
	const uint64_t gib = 1ULL << 30;
	assert_int_equal(disk_watch_interval_ms(0), 20);
	assert_int_equal(disk_watch_interval_ms(gib), 128);
	assert_int_equal(disk_watch_interval_ms(100 * gib), 500);
	assert_int_equal(disk_watch_interval_ms(UINT64_MAX), 500);
}

struct told {
	struct loop *loop;
	enum cause_stop why;
	bool urgent;
	char detail[200];
};

static void on_over(void *data, enum cause_stop why, const char *detail, bool urgent)
{
	struct told *t = data;
	t->why = why;
	t->urgent = urgent;
	snprintf(t->detail, sizeof(t->detail), "%s", detail);
	loop_quit(t->loop, 0);
}

static void on_timeout(void *data)
{
	struct told *t = data;
	loop_quit(t->loop, 1);
}

static int watch(void **state, uint64_t limit, uint64_t keep_free, struct told *t)
{
	struct error err = {0};
	cleanup_loop struct loop *loop = loop_new(&err);
	cleanup_fd int top = directory_open(AT_FDCWD, *state, &err);
	*t = (struct told){.loop = loop};
	const struct disk_watch_options o = {.folder_fd = top,
		.limit = limit,
		.keep_free = keep_free,
		.over = on_over,
		.data = t};
	cleanup_disk_watch struct disk_watch *w = disk_watch_new(loop, &o, &err);
	assert_non_null(w);
	loop_add_timer(loop, 300, on_timeout, t, &err);
	return loop_run(loop, &err);
}

static void test_limit(void **state)
{
	struct error err;
	struct told t;
	cleanup_fd int top = directory_open(AT_FDCWD, *state, &err);
	write_file(top, "file", 2 * 1024 * 1024);
	assert_int_equal(watch(state, 1024 * 1024, 0, &t), 0);
	assert_int_equal(t.why, STOP_DISK_LIMIT);
	assert_false(t.urgent);
	assert_non_null(strstr(t.detail, "1.05 MB are allowed"));
	assert_int_equal(watch(state, 100 * 1024 * 1024, 0, &t), 1);
}

// Who has next to nothing on the disk is not to blame for a full one.
static void test_full_disk(void **state)
{
	struct error err;
	struct told t;
	cleanup_fd int top = directory_open(AT_FDCWD, *state, &err);
	assert_int_equal(watch(state, 0, UINT64_MAX / 2, &t), 1);
	write_file(top, "file", 2 * 1024 * 1024);
	assert_int_equal(watch(state, 0, UINT64_MAX / 2, &t), 0);
	assert_int_equal(t.why, STOP_DISK_FULL);
	assert_true(t.urgent);
}

static void test_nothing_to_watch(void **state)
{
	(void)state;
	struct error err = {0};
	const struct disk_watch_options o = {.folder_fd = -1};
	assert_null(disk_watch_new(NULL, &o, &err));
	assert_int_equal(err.kind, ERROR_NONE);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(test_walk), TEST(test_links), TEST(test_depth),
		TEST(test_break), TEST(test_interval), TEST(test_limit), TEST(test_full_disk),
		TEST(test_nothing_to_watch)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
