// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/log_reader.h"

#include "agent/supervise/journal.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { LINES = 40 };

static const int64_t start_us = 1795428000LL * 1000 * 1000; // 2026-11-23T10:00:00Z
static char folder[64];
static int dirfd = -1;
static int64_t now;

static int set_up(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/test_log_reader.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	now = start_us;
	return dirfd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	struct error err;
	(void)state;
	close(dirfd);
	return directory_remove(AT_FDCWD, folder, &err);
}

static int64_t read_clock(void *data)
{
	(void)data;
	return now;
}

static struct journal *open_journal(void)
{
	struct journal *j = NULL;
	struct error err = {0};
	if (journal_open(dirfd, &(struct journal_options){.now_us = read_clock}, &j, &err) < 0)
		fail_msg("%s", err.text);
	return j;
}

static void append(struct journal *j, const char *text)
{
	struct error err = {0};
	if (journal_append(j, text, strlen(text), &err) < 0)
		fail_msg("%s", err.text);
}

// What log_read() gives, by a file without a name; an error becomes its text.
static char *read_log(struct log_reader_options o)
{
	cleanup_buffer struct buffer b = {0};
	struct error err = {0};
	cleanup_fd int out = open(folder, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	assert_true(out >= 0);
	o.dirfd = dirfd;
	o.output_fd = out;
	o.ended_fd = -1;
	if (log_read(&o, &err) < 0)
		return xstrdup(err.text);
	assert_int_equal(lseek(out, 0, SEEK_SET), 0);
	assert_int_equal(file_read_fd(out, "out", 1 << 24, &b, &err), 0);
	return buffer_steal(&b);
}

static void assert_read(struct log_reader_options o, const char *expected, const char *why)
{
	cleanup_free char *text = read_log(o);
	if (!streq(text, expected))
		fail_msg("%s: \"%s\", not \"%s\"", why, text, expected);
}

static void reads_all_of_it(void **state)
{
	(void)state;
	assert_read((struct log_reader_options){.tail = -1}, "", "no log");
	assert_read((struct log_reader_options){.tail = 5, .has_since = true}, "", "no log");
	cleanup_journal struct journal *j = open_journal();
	assert_read((struct log_reader_options){.tail = -1, .timestamps = true}, "", "empty");
	append(j, "one\ntwo");
	assert_read((struct log_reader_options){.tail = -1}, "one\ntwo", "all");
}

static void reads_the_last_lines(void **state)
{
	static const struct {
		const char *log;
		int64_t lines;
		const char *expected;
	} cases[] = {
		{"a\nb\nc\n", 0, ""},
		{"a\nb\nc\n", 1, "c\n"},
		{"a\nb\nc\n", 2, "b\nc\n"},
		{"a\nb\nc\n", 3, "a\nb\nc\n"},
		{"a\nb\nc\n", 4, "a\nb\nc\n"},
		{"a\nb\nc", 1, "c"},
		{"a\nb\nc", 2, "b\nc"},
		{"\n\n\n", 2, "\n\n"},
		{"x", 1, "x"},
		{"\n", 1, "\n"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err;
		directory_remove(dirfd, "user_logs", &err);
		struct journal *j = open_journal();
		append(j, cases[i].log);
		journal_close(j);
		assert_read((struct log_reader_options){.tail = cases[i].lines}, cases[i].expected,
			cases[i].log);
	}
}

// Backwards over many blocks, whose borders fall anywhere in the lines.
static void reads_the_last_of_many_lines(void **state)
{
	cleanup_buffer struct buffer b = {0};
	(void)state;
	for (int i = 0; i < 30000; i++)
		buffer_printf(&b, "line %0*d\n", 1 + i % 13, i);
	struct journal *j = open_journal();
	append(j, b.data);
	journal_close(j);
	for (int lines = 1; lines <= 30000; lines = lines * 3 + 1) {
		const char *expected = b.data + b.size;
		for (int i = 0; i <= lines && expected; i++) // to the break before the first
			expected = memrchr(b.data, '\n', (size_t)(expected - b.data));
		cleanup_free char *text = read_log((struct log_reader_options){.tail = lines});
		assert_string_equal(text, expected ? expected + 1 : b.data);
	}
}

// Line i is written at second i.
static void write_lines(void)
{
	struct journal *j = open_journal();
	for (int i = 0; i < LINES; i++) {
		cleanup_free char *line = xasprintf("line %d\n", i);
		now = start_us + (int64_t)i * 1000 * 1000;
		append(j, line);
	}
	journal_close(j);
}

static void reads_since_a_time(void **state)
{
	static const struct {
		int64_t ms;
		int first; // line
	} cases[] = {{-1000, 0}, {0, 0}, {50, 0}, {101, 1}, {1000, 1}, {20050, 20}, {20101, 21},
		{39000, 39}, {39101, LINES}, {1000000, LINES}};
	(void)state;
	write_lines();
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_buffer struct buffer expected = {0};
		for (int line = cases[i].first; line < LINES; line++)
			buffer_printf(&expected, "line %d\n", line);
		assert_read((struct log_reader_options){.tail = -1,
				    .has_since = true,
				    .since_us = start_us + cases[i].ms * 1000},
			expected.data ? expected.data : "", "since");
	}
	assert_read((struct log_reader_options){.tail = 1, .has_since = true, .since_us = start_us},
		"line 39\n", "since, and the last line");
	assert_read(
		(struct log_reader_options){
			.tail = 100, .has_since = true, .since_us = start_us + 38500 * 1000},
		"line 39\n", "the last lines, but since");
}

// A line that was begun before is shown whole.
static void begins_with_a_line(void **state)
{
	(void)state;
	struct journal *j = open_journal();
	append(j, "first\nbegun ");
	now += 10 * 1000 * 1000;
	append(j, "and ended\nlast\n");
	journal_close(j);
	assert_read(
		(struct log_reader_options){
			.tail = -1, .has_since = true, .since_us = start_us + 5 * 1000 * 1000},
		"begun and ended\nlast\n", "begun before");
}

static void writes_times(void **state)
{
	(void)state;
	struct journal *j = open_journal();
	append(j, "first\nbegun ");
	now += 10 * 1000 * 1000 + 5000;
	append(j, "and ended\n\nlast");
	journal_close(j);
	assert_read((struct log_reader_options){.tail = -1, .timestamps = true},
		"2026-11-23T10:00:00.000Z first\n"
		"2026-11-23T10:00:00.000Z begun and ended\n"
		"2026-11-23T10:00:10.005Z \n"
		"2026-11-23T10:00:10.005Z last",
		"times");
	assert_read((struct log_reader_options){.tail = 1, .timestamps = true},
		"2026-11-23T10:00:10.005Z last", "from the middle of the index");
}

static void needs_an_index_for_times(void **state)
{
	static const char expected[] = "the times of this log are not known: open std_log.index: "
				       "No such file or directory";
	(void)state;
	write_lines();
	assert_int_equal(unlinkat(dirfd, "std_log.index", 0), 0);
	assert_read((struct log_reader_options){.tail = -1, .timestamps = true}, expected, "times");
	assert_read((struct log_reader_options){.tail = -1, .has_since = true}, expected, "since");
	cleanup_free char *all = read_log((struct log_reader_options){.tail = -1});
	assert_true(starts_with(all, "line 0\n"));
}

// ---- following

static bool has_ended(void *data)
{
	(void)data;
	return faccessat(dirfd, "ended", F_OK, 0) == 0;
}

struct follower {
	pid_t pid;
	int fd; // what it shows
};

static struct follower start_follower(struct log_reader_options o)
{
	int fds[2];
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	struct follower f = {.pid = fork(), .fd = fds[0]};
	if (f.pid == 0) {
		struct error err = {0};
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fds[0]);
		o.dirfd = dirfd;
		o.output_fd = fds[1];
		o.follow = true;
		o.ended = has_ended;
		_exit(log_read(&o, &err) < 0);
	}
	close(fds[1]);
	return f;
}

// Returns after how many milliseconds the text was there.
static int64_t expect(const struct follower *f, const char *text)
{
	char read_text[64] = {0};
	int64_t begin = now_ms();
	size_t size = 0;
	while (size < strlen(text)) {
		struct pollfd p = {.fd = f->fd, .events = POLLIN};
		if (poll(&p, 1, 5000) <= 0)
			fail_msg("no %s: \"%s\"", text, read_text);
		ssize_t n = read(f->fd, read_text + size, sizeof(read_text) - 1 - size);
		if (n <= 0)
			fail_msg("the end, and no %s", text);
		size += (size_t)n;
	}
	assert_string_equal(read_text, text);
	return now_ms() - begin;
}

static void expect_end(struct follower *f)
{
	char more;
	int status;
	struct pollfd p = {.fd = f->fd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(read(f->fd, &more, 1), 0);
	assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
	assert_int_equal(status, 0);
	close(f->fd);
}

static void end_run(void)
{
	struct error err = {0};
	assert_int_equal(file_write_atomic(dirfd, "ended", "", 0, 0644, &err), 0);
}

static void follows_a_log_to_its_end(void **state)
{
	(void)state;
	// Nothing is there yet, not even its folder.
	struct follower f = start_follower((struct log_reader_options){.tail = -1, .ended_fd = -1});
	usleep(20 * 1000);
	struct journal *j = open_journal();
	int64_t slowest = 0;
	for (int i = 0; i < 20; i++) {
		cleanup_free char *line = xasprintf("line %d\n", i);
		append(j, line);
		int64_t ms = expect(&f, line);
		slowest = ms > slowest ? ms : slowest;
	}
	assert_true(slowest < 100);
	append(j, "the rest");
	journal_close(j);
	end_run();
	expect(&f, "the rest");
	expect_end(&f);
}

static void follows_from_the_last_lines(void **state)
{
	(void)state;
	write_lines();
	struct follower f = start_follower(
		(struct log_reader_options){.tail = 1, .timestamps = true, .ended_fd = -1});
	expect(&f, "2026-11-23T10:00:39.000Z line 39\n");
	struct journal *j = open_journal();
	now += 1000 * 1000;
	append(j, "begun");
	expect(&f, "2026-11-23T10:00:40.000Z begun");
	now += 1000 * 1000;
	append(j, " and ended\nnext\n");
	expect(&f, " and ended\n2026-11-23T10:00:41.000Z next\n");
	journal_close(j);
	end_run();
	expect_end(&f);
}

// The end of the run is seen only by a lock that its owner, killed, let go.
static bool is_unlocked(void *data)
{
	struct error err;
	cleanup_fd int fd = openat(dirfd, "lock", O_RDONLY | O_CLOEXEC);
	(void)data;
	return file_lock(fd, LOCK_SH | LOCK_NB, "lock", &err) == 0;
}

static void notices_a_killed_writer(void **state)
{
	int fds[2], status;
	struct error err = {0};
	char byte;
	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t writer = fork();
	if (writer == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int lock = openat(dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		append(open_journal(), "all there is\n");
		if (file_lock(lock, LOCK_EX, "lock", &err) < 0 || write(fds[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(fds[0], &byte, 1), 1);
	cleanup_fd int lock = openat(dirfd, "lock", O_RDONLY | O_CLOEXEC);
	cleanup_fd int out = open(folder, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	pid_t reader = fork();
	if (reader == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		const struct log_reader_options o = {
			.dirfd = dirfd,
			.output_fd = out,
			.tail = -1,
			.follow = true,
			.ended = is_unlocked,
			.ended_fd = lock,
		};
		_exit(log_read(&o, &err) < 0);
	}
	usleep(50 * 1000);
	assert_int_equal(waitpid(reader, &status, WNOHANG), 0); // goes on
	kill(writer, SIGKILL);
	waitpid(writer, &status, 0);
	int64_t begin = now_ms();
	assert_int_equal(waitpid(reader, &status, 0), reader);
	assert_int_equal(status, 0);
	assert_true(now_ms() - begin < 1000);
	assert_int_equal(lseek(out, 0, SEEK_END), 13);
	close(fds[0]);
	close(fds[1]);
}

static void ends_when_nobody_reads(void **state)
{
	int status;
	(void)state;
	struct follower f = start_follower((struct log_reader_options){.tail = -1, .ended_fd = -1});
	close(f.fd);
	assert_int_equal(waitpid(f.pid, &status, 0), f.pid);
	assert_int_equal(status, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(reads_all_of_it),
		TEST(reads_the_last_lines),
		TEST(reads_the_last_of_many_lines),
		TEST(reads_since_a_time),
		TEST(begins_with_a_line),
		TEST(writes_times),
		TEST(needs_an_index_for_times),
		TEST(follows_a_log_to_its_end),
		TEST(follows_from_the_last_lines),
		TEST(notices_a_killed_writer),
		TEST(ends_when_nobody_reads),
	};
	alarm(60); // a follower that hangs must not hang us
	return cmocka_run_group_tests(tests, NULL, NULL);
}
