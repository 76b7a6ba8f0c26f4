// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/journal.h"

#include "agent/supervise/journal_index.h"
#include "base/file.h"
#include "base/text.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

// A folder of its own for each test, and a clock and a disk that the test sets.
struct place {
	char path[64];
	int fd;
	int64_t now;
	uint64_t free;
};

static int64_t read_clock(void *data)
{
	return ((struct place *)data)->now;
}

static uint64_t read_free(void *data)
{
	return ((struct place *)data)->free;
}

static int set_up(void **state)
{
	struct place *p = xcalloc(1, sizeof(*p));
	snprintf(p->path, sizeof(p->path), "/tmp/test_journal.XXXXXX");
	if (!mkdtemp(p->path))
		return -1;
	p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	p->now = 1000 * 1000 * 1000;
	p->free = 1ULL << 40;
	*state = p;
	return p->fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	struct place *p = *state;
	struct error err;
	close(p->fd);
	int rc = directory_remove(AT_FDCWD, p->path, &err);
	free(p);
	return rc;
}

static struct journal *open_journal(struct place *p, struct journal_options o)
{
	struct journal *j = NULL;
	struct error err = {0};
	o.now_us = read_clock;
	o.free_bytes = read_free;
	o.data = p;
	if (journal_open(p->fd, &o, &j, &err) < 0)
		fail_msg("%s", err.text);
	return j;
}

static void append(struct journal *j, const char *text)
{
	struct error err = {0};
	if (journal_append(j, text, strlen(text), &err) < 0)
		fail_msg("%s", err.text);
}

static void assert_log(struct place *p, const char *expected)
{
	cleanup_buffer struct buffer b = {0};
	struct error err = {0};
	if (file_read(p->fd, "user_logs/std_log.txt", 1 << 20, &b, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(b.data, expected);
}

static void open_index(struct place *p, struct journal_index *x)
{
	struct error err = {0};
	if (journal_index_open_read(x, p->fd, "std_log.index", &err) < 0)
		fail_msg("%s", err.text);
}

static void keeps_every_byte(void **state)
{
	struct place *p = *state;
	static const char bytes[] = "one\n\0two\r\n\xff\xfe no line end";
	struct error err = {0};
	struct stat st;
	cleanup_fd int log = -1;
	cleanup_buffer struct buffer b = {0};
	{
		cleanup_journal struct journal *j = open_journal(p, (struct journal_options){0});
		assert_int_equal(journal_append(j, bytes, sizeof(bytes) - 1, &err), 0);
		append(j, "");
		assert_int_equal(journal_counts(j).size, sizeof(bytes) - 1);
		assert_int_equal(fstat(journal_fd(j), &st), 0);
		assert_int_equal(st.st_size, sizeof(bytes) - 1); // what is reserved does not show
		assert_int_equal(journal_sync(j, &err), 0);
	}
	assert_int_equal(file_read(p->fd, "user_logs/std_log.txt", 100, &b, &err), 0);
	assert_int_equal(b.size, sizeof(bytes) - 1);
	assert_memory_equal(b.data, bytes, b.size);
	log = openat(p->fd, "user_logs/std_log.txt", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fstat(log, &st), 0);
	assert_true(st.st_blocks * 512 <= 64 * 1024); // and is given back
}

static void goes_on_at_the_end(void **state)
{
	struct place *p = *state;
	for (int i = 0; i < 3; i++) {
		cleanup_journal struct journal *j = open_journal(p, (struct journal_options){0});
		append(j, "again ");
	}
	assert_log(p, "again again again ");
}

static void has_one_writer(void **state)
{
	struct place *p = *state;
	struct error err = {0};
	struct journal *second = NULL;
	cleanup_journal struct journal *j = open_journal(p, (struct journal_options){0});
	assert_int_equal(journal_open(p->fd, &(struct journal_options){0}, &second, &err), -1);
	assert_int_equal(err.kind, ERROR_UNAVAILABLE);
	assert_null(second);
	append(j, "of the first");
	struct journal *other = open_journal(p, (struct journal_options){.name = "std_log_2"});
	journal_close(other);
}

static void moves_what_a_pipe_holds(void **state)
{
	struct place *p = *state;
	struct error err = {0};
	int fds[2];
	assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	cleanup_journal struct journal *j = open_journal(p, (struct journal_options){0});
	assert_int_equal(journal_read_from(j, fds[0], &err), JOURNAL_AGAIN);
	assert_int_equal(write(fds[1], "abc", 3), 3);
	assert_int_equal(journal_read_from(j, fds[0], &err), JOURNAL_MORE);
	assert_int_equal(journal_read_from(j, fds[0], &err), JOURNAL_AGAIN);
	close(fds[1]);
	assert_int_equal(journal_read_from(j, fds[0], &err), JOURNAL_END);
	close(fds[0]);
	assert_log(p, "abc");
	assert_int_equal(journal_read_from(j, -1, &err), -1);
	assert_string_equal(err.text, "read the job's output: Bad file descriptor");
}

static void takes_secrets_out(void **state)
{
	struct place *p = *state;
	struct error err = {0};
	cleanup_redact struct redact *r =
		redact_new(&(struct redact_secret){"S", "hunter2", 7}, 1, &err);
	cleanup_journal struct journal *j = open_journal(p, (struct journal_options){.redact = r});
	append(j, "a hun");
	assert_log(p, "a ");
	append(j, "ter2 hun");
	assert_log(p, "a *** ");
	assert_int_equal(journal_finish(j, &err), 0);
	assert_log(p, "a *** hun");
}

// ---- times

static void knows_when(void **state)
{
	struct place *p = *state;
	struct journal_stamp s;
	cleanup_journal struct journal *j = open_journal(p, (struct journal_options){0});
	append(j, "0123456789"); // a record
	p->now += 99 * 1000;
	append(j, "0123456789"); // too early for another
	p->now += 1000;
	append(j, "0123456789"); // a record
	p->now -= 50 * 1000;	 // the clock is set back: a record
	append(j, "0123456789");
	cleanup_journal_index struct journal_index x = {.fd = -1};
	open_index(p, &x);
	assert_int_equal(x.count, 3);
	static const struct {
		uint64_t offset;
		int64_t ms;
	} expected[] = {{0, 0}, {20, 100}, {30, 50}};
	for (uint64_t i = 0; i < x.count; i++) {
		assert_true(journal_index_get(&x, i, &s));
		assert_int_equal(s.offset, expected[i].offset);
		assert_int_equal(s.unix_us, (1000 * 1000 + expected[i].ms) * 1000);
		assert_int_equal(s.dropped, 0);
		assert_false(s.dropping);
	}
	assert_false(journal_index_get(&x, 3, &s));
	assert_int_equal(journal_index_find(&x, 0), 0);
	assert_int_equal(journal_index_find(&x, 19), 0);
	assert_int_equal(journal_index_find(&x, 20), 1);
	assert_int_equal(journal_index_find(&x, 1000), 2);
}

static void finds_where_a_time_begins(void **state)
{
	struct place *p = *state;
	cleanup_journal struct journal *j = open_journal(p, (struct journal_options){0});
	int64_t begin = p->now;
	for (int i = 0; i < 200; i++) { // more than are read at once
		append(j, "0123456789");
		p->now += 1000 * 1000;
	}
	cleanup_journal_index struct journal_index x = {.fd = -1};
	open_index(p, &x);
	static const struct {
		int64_t second;
		uint64_t offset;
	} cases[] = {
		{-5, 0}, {0, 0}, {1, 10}, {136, 1360}, {137, 1370}, {199, 1990}, {200, UINT64_MAX}};
	for (size_t i = 0; i < array_size(cases); i++) {
		int64_t since = begin + cases[i].second * 1000 * 1000;
		assert_int_equal(journal_index_since(&x, since), cases[i].offset);
		if (cases[i].second > 0 && cases[i].second < 200)
			assert_int_equal(journal_index_since(&x, since - 1), cases[i].offset);
	}
}

// A torn record, or one of bytes that a power cut took, does not count, whatever the length at
// which the file was cut.
static void bears_a_torn_index(void **state)
{
	struct place *p = *state;
	struct journal_stamp s;
	struct stat st;
	{
		cleanup_journal struct journal *j = open_journal(p, (struct journal_options){0});
		for (int i = 0; i < 4; i++) {
			append(j, "0123456789");
			p->now += 1000 * 1000;
		}
	}
	cleanup_fd int index = openat(p->fd, "std_log.index", O_RDWR | O_CLOEXEC);
	for (off_t size = 5 * 24; size >= 0; size--) {
		assert_int_equal(ftruncate(index, size), 0);
		uint64_t whole = size < 24 ? 0 : (uint64_t)size / 24 - 1;
		struct journal *j = open_journal(p, (struct journal_options){0});
		append(j, "x"); // of a time of its own
		journal_close(j);
		cleanup_journal_index struct journal_index x = {.fd = -1};
		open_index(p, &x);
		assert_int_equal(x.count, whole + 1);
		assert_true(journal_index_get(&x, whole, &s));
		assert_int_equal(s.unix_us, p->now);
		assert_int_equal(fstat(index, &st), 0);
		assert_int_equal(st.st_size % 24, 0);
		p->now += 1000 * 1000;
	}
}

static void bears_a_log_that_lost_its_end(void **state)
{
	struct place *p = *state;
	char path[128];
	struct journal *j = open_journal(p, (struct journal_options){0});
	for (int i = 0; i < 4; i++) {
		append(j, "0123456789");
		p->now += 1000 * 1000;
	}
	journal_close(j);
	snprintf(path, sizeof(path), "%s/user_logs/std_log.txt", p->path);
	assert_int_equal(truncate(path, 15), 0);
	j = open_journal(p, (struct journal_options){0});
	append(j, "+");
	journal_close(j);
	assert_log(p, "012345678901234+");
	cleanup_journal_index struct journal_index x = {.fd = -1};
	open_index(p, &x);
	assert_int_equal(x.count, 3); // at 0, 10, 15
}

// ---- limits

static void says_what_the_limit_took(void **state)
{
	struct place *p = *state;
	struct error err = {0};
	cleanup_journal struct journal *j = open_journal(p, (struct journal_options){.limit = 10});
	append(j, "01234\n");
	append(j, "6789abc");
	assert_log(p,
		"01234\n6789\n[stoker: the log reached its limit of 10 bytes: what follows is "
		"dropped]\n");
	for (int i = 0; i < 1000; i++)
		append(j, "0123456789");
	assert_int_equal(journal_counts(j).dropped, 10003);
	assert_int_equal(journal_finish(j, &err), 0);
	static const char log[] =
		"01234\n6789\n"
		"[stoker: the log reached its limit of 10 bytes: what follows is dropped]\n"
		"[stoker: 10003 bytes dropped: the log reached its limit of 10 bytes]\n";
	assert_log(p, log);
	assert_int_equal(journal_finish(j, &err), 0); // not twice
	assert_log(p, log);
	assert_int_equal(journal_counts(j).size, sizeof(log) - 1);
}

static void takes_exactly_the_limit(void **state)
{
	struct place *p = *state;
	cleanup_journal struct journal *j = open_journal(p, (struct journal_options){.limit = 10});
	append(j, "012345678\n");
	assert_log(p, "012345678\n");
	append(j, "x");
	assert_log(p, "012345678\n[stoker: the log reached its limit of 10 bytes: what follows is "
		      "dropped]\n");
}

static void waits_for_space(void **state)
{
	struct place *p = *state;
	struct error err = {0};
	cleanup_journal struct journal *j =
		open_journal(p, (struct journal_options){.keep_free = 1 << 20});
	append(j, "before\n");
	p->free = (1 << 20) - 1;
	p->now += 1000 * 1000;
	append(j, "lost 1\n");
	p->free = 1ULL << 30;
	append(j, "lost 2\n"); // looks again after a second
	p->now += 1000 * 1000;
	append(j, "after\n");
	assert_int_equal(journal_finish(j, &err), 0);
	assert_log(p, "before\n"
		      "[stoker: the disk has no more room for it: what follows is dropped]\n"
		      "[stoker: 14 bytes dropped: the disk has no more room for it]\n"
		      "after\n");
	assert_int_equal(journal_counts(j).dropped, 14);
}

// The writer is killed while bytes are dropped: the log says that they were, the index how many at
// least, and the next writer writes that down.
static void says_what_a_killed_writer_dropped(void **state)
{
	struct place *p = *state;
	pid_t child = fork();
	if (child == 0) {
		struct journal *j = open_journal(p, (struct journal_options){.limit = 4});
		append(j, "0123456789");
		p->now += 1000 * 1000;
		append(j, "0123456789"); // counted in the index
		append(j, "01234");	 // not yet
		kill(getpid(), SIGKILL);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
#define BEFORE                                                                  \
	"0123\n[stoker: the log reached its limit of 4 bytes: what follows is " \
	"dropped]\n"
	assert_log(p, BEFORE);
	for (int i = 0; i < 2; i++) { // said once
		cleanup_journal struct journal *j =
			open_journal(p, (struct journal_options){.limit = 4});
		assert_log(p,
			BEFORE "[stoker: at least 16 bytes dropped: the writer of the log was "
			       "killed]\n");
		assert_int_equal(journal_counts(j).dropped, 16);
	}
#undef BEFORE
}

// Files as a kill may leave them at any moment: each prefix of what was written, in the order in
// which it was written. Where bytes are missing, a line says so.
static void leaves_no_silent_gap(void **state)
{
	struct place *p = *state;
	static const char before[] = "0123\n[stoker: the log";
	struct journal *j = open_journal(p, (struct journal_options){.limit = 4});
	append(j, "0123456789");
	p->now += 1000 * 1000;
	append(j, "0123456789");
	journal_close(j);
	cleanup_buffer struct buffer b = {0};
	struct error err = {0};
	assert_int_equal(file_read(p->fd, "user_logs/std_log.txt", 4096, &b, &err), 0);
	assert_memory_equal(b.data, before, sizeof(before) - 1);
	cleanup_fd int log = openat(p->fd, "user_logs/std_log.txt", O_RDWR | O_CLOEXEC);
	for (size_t size = b.size; size-- > 0;) {
		assert_int_equal(ftruncate(log, (off_t)size), 0);
		j = open_journal(p, (struct journal_options){.limit = 4});
		append(j, "lost");
		bool lost = size >= 1;
		journal_close(j);
		cleanup_buffer struct buffer now = {0};
		assert_int_equal(file_read(p->fd, "user_logs/std_log.txt", 4096, &now, &err), 0);
		assert_true(!lost || strstr(now.data + (size < 4 ? 4 : size), " bytes dropped: "));
		assert_memory_equal(now.data, b.data, size < now.size ? size : now.size);
		assert_int_equal(ftruncate(log, 0), 0);
		assert_int_equal(pwrite(log, b.data, size, 0), size);
	}
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(keeps_every_byte),
		TEST(goes_on_at_the_end),
		TEST(has_one_writer),
		TEST(moves_what_a_pipe_holds),
		TEST(takes_secrets_out),
		TEST(knows_when),
		TEST(finds_where_a_time_begins),
		TEST(bears_a_torn_index),
		TEST(bears_a_log_that_lost_its_end),
		TEST(says_what_the_limit_took),
		TEST(takes_exactly_the_limit),
		TEST(waits_for_space),
		TEST(says_what_a_killed_writer_dropped),
		TEST(leaves_no_silent_gap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
