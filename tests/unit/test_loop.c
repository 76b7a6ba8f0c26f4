// SPDX-License-Identifier: Apache-2.0
#include "base/loop.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct scene {
	struct loop *loop;
	struct loop_source *sources[4];
	char order[32];
	int count, fd;
};

static void note(struct scene *s, char c)
{
	size_t n = strlen(s->order);
	if (n + 1 < sizeof(s->order))
		s->order[n] = c;
}

static void quit(void *data)
{
	loop_quit(((struct scene *)data)->loop, 7);
}

static void note_a(void *data)
{
	note(data, 'a');
}

static void note_b(void *data)
{
	note(data, 'b');
}

static void test_timers(void **state)
{
	(void)state;
	struct error err;
	struct scene s = {.loop = loop_new(&err)};
	cleanup_loop struct loop *owned = s.loop;
	assert_non_null(owned);
	int64_t start = now_ms();
	assert_non_null(loop_add_timer(owned, 30, quit, &s, &err));
	assert_non_null(loop_add_timer(owned, 20, note_b, &s, &err));
	assert_non_null(loop_add_timer(owned, 5, note_a, &s, &err));
	struct loop_source *never = loop_add_timer(owned, 1, note_b, &s, &err);
	loop_timer_set(never, -1);
	struct loop_source *moved = loop_add_timer(owned, 1000000, note_a, &s, &err);
	loop_timer_set(moved, 25);
	assert_int_equal(loop_run(owned, &err), 7);
	assert_true(now_ms() - start >= 30);
	assert_string_equal(s.order, "aba");
	loop_remove(never);
	loop_remove(NULL);
}

static void rearm_at_once(void *data)
{
	struct scene *s = data;
	if (!s->count++)
		assert_int_equal(write(s->fd, "x", 1), 1);
	loop_timer_set(s->sources[0], 0);
}

static void on_byte(void *data, uint32_t events)
{
	struct scene *s = data;
	assert_true(events & EPOLLIN);
	loop_quit(s->loop, s->count);
}

// A timer that is always due does not keep descriptors waiting.
static void test_no_starvation(void **state)
{
	(void)state;
	struct error err;
	struct scene s = {.loop = loop_new(&err)};
	cleanup_loop struct loop *owned = s.loop;
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	s.fd = fds[1];
	s.sources[0] = loop_add_timer(owned, 0, rearm_at_once, &s, &err);
	assert_non_null(loop_add_fd(owned, fds[0], EPOLLIN, on_byte, &s, &err));
	assert_int_equal(loop_run(owned, &err), 1);
	close(fds[0]);
	close(fds[1]);
}

static void remove_both(void *data, uint32_t events)
{
	struct scene *s = data;
	(void)events;
	note(s, 'x');
	loop_remove(s->sources[0]);
	loop_remove(s->sources[1]);
	loop_add_timer(s->loop, 5, quit, s, &(struct error){0});
}

// Both descriptors are ready in one round; the first callback removes both sources and frees
// nothing that the round still points at (AddressSanitizer watches).
static void test_remove_in_callback(void **state)
{
	(void)state;
	struct error err;
	struct scene s = {.loop = loop_new(&err)};
	cleanup_loop struct loop *owned = s.loop;
	int fds[2][2];
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe(fds[i]), 0);
		assert_int_equal(write(fds[i][1], "x", 1), 1);
		s.sources[i] = loop_add_fd(owned, fds[i][0], EPOLLIN, remove_both, &s, &err);
		assert_non_null(s.sources[i]);
	}
	assert_int_equal(loop_run(owned, &err), 7);
	assert_string_equal(s.order, "x");
	for (int i = 0; i < 2; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
}

static void remove_self_timer(void *data)
{
	struct scene *s = data;
	loop_remove(s->sources[0]);
	loop_remove(s->sources[1]); // due as well, must not fire any more
	note(s, 't');
}

static void test_remove_timers(void **state)
{
	(void)state;
	struct error err;
	struct scene s = {.loop = loop_new(&err)};
	cleanup_loop struct loop *owned = s.loop;
	s.sources[0] = loop_add_timer(owned, 0, remove_self_timer, &s, &err);
	s.sources[1] = loop_add_timer(owned, 0, note_a, &s, &err);
	loop_add_timer(owned, 5, quit, &s, &err);
	assert_int_equal(loop_run(owned, &err), 7);
	assert_string_equal(s.order, "t");
}

static void on_signal(void *data, int signo)
{
	struct scene *s = data;
	note(s, signo == SIGUSR1 ? '1' : '2');
	if (++s->count == 2) {
		loop_remove(s->sources[0]);
		loop_remove(s->sources[1]);
		loop_quit(s->loop, 3);
	}
}

static void test_signals(void **state)
{
	(void)state;
	struct error err;
	struct scene s = {.loop = loop_new(&err)};
	cleanup_loop struct loop *owned = s.loop;
	s.sources[0] = loop_add_signal(owned, SIGUSR1, on_signal, &s, &err);
	s.sources[1] = loop_add_signal(owned, SIGUSR2, on_signal, &s, &err);
	assert_non_null(s.sources[0]);
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGUSR2);
	assert_int_equal(loop_run(owned, &err), 3);
	assert_string_equal(s.order, "12");
	kill(getpid(), SIGUSR1); // stays blocked: a late one kills nobody
	assert_null(loop_add_signal(owned, 1000, on_signal, &s, &err));
	assert_string_equal(err.text, "watch signal 1000: Invalid argument");
}

static void write_ready(void *data, uint32_t events)
{
	struct scene *s = data;
	loop_quit(s->loop, (events & EPOLLOUT) != 0);
}

static void test_modify(void **state)
{
	(void)state;
	struct error err;
	struct scene s = {.loop = loop_new(&err)};
	cleanup_loop struct loop *owned = s.loop;
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	struct loop_source *source = loop_add_fd(owned, fds[1], 0, write_ready, &s, &err);
	struct loop_source *timer = loop_add_timer(owned, 5, quit, &s, &err);
	assert_int_equal(loop_run(owned, &err), 7); // nothing asked for, nothing told
	loop_timer_set(timer, 1000);
	assert_int_equal(loop_modify_fd(source, EPOLLOUT, &err), 0);
	assert_int_equal(loop_run(owned, &err), 1);
	assert_null(loop_add_fd(owned, -1, EPOLLIN, write_ready, &s, &err));
	assert_string_equal(err.text, "watch descriptor -1: Bad file descriptor");
	close(fds[0]);
	loop_remove(source);
	close(fds[1]);
}

static void test_format_time(void **state)
{
	(void)state;
	static const struct {
		int64_t ms;
		const char *text;
	} cases[] = {
		{0, "1970-01-01T00:00:00.000Z"},
		{1795428000007, "2026-11-23T10:00:00.007Z"},
		{951782399999, "2000-02-28T23:59:59.999Z"},
		{253402300799999, "9999-12-31T23:59:59.999Z"},
		{INT64_MAX, "9999-12-31T23:59:59.999Z"},
		{-1, "1970-01-01T00:00:00.000Z"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[TIME_TEXT_SIZE];
		assert_string_equal(format_time(cases[i].ms, text), cases[i].text);
	}
	assert_true(wall_ms() > 1700000000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timers),
		cmocka_unit_test(test_no_starvation),
		cmocka_unit_test(test_remove_in_callback),
		cmocka_unit_test(test_remove_timers),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_modify),
		cmocka_unit_test(test_format_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
