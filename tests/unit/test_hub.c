// SPDX-License-Identifier: Apache-2.0
#include "controller/database/hub.h"

#include "base/time.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

static int set_up(void **state)
{
	*state = hub_new();
	return 0;
}

static int tear_down(void **state)
{
	hub_free(*state);
	return 0;
}

static void test_counts(void **state)
{
	struct hub *h = *state;
	uint64_t node = hub_count(h, "node/1"), run = hub_count(h, "run/1");
	hub_notify(h, "node/1");
	assert_int_equal(hub_count(h, "node/1"), node + 1);
	assert_int_equal(hub_count(h, "run/1"), run);
	assert_true(hub_wait(h, "node/1", node, 0)); // it came before we waited
	hub_notify(h, NULL);
	assert_int_equal(hub_count(h, "node/1"), node + 2);
	assert_int_equal(hub_count(h, "run/1"), run + 1);
}

static void test_time(void **state)
{
	struct hub *h = *state;
	int64_t start = now_ms();
	assert_false(hub_wait(h, "queue", hub_count(h, "queue"), 30));
	assert_in_range(now_ms() - start, 29, 5000);
}

struct waiter {
	struct hub *hub;
	uint64_t seen;
	bool woken;
};

static void *wait_long(void *data)
{
	struct waiter *w = data;
	w->woken = hub_wait(w->hub, "queue", w->seen, 20000);
	return NULL;
}

static void wake(struct hub *h, void (*by)(struct hub *h), bool woken)
{
	struct waiter w = {h, hub_count(h, "queue"), !woken};
	pthread_t thread;
	int64_t start = now_ms();
	assert_int_equal(pthread_create(&thread, NULL, wait_long, &w), 0);
	usleep(20000);
	by(h);
	pthread_join(thread, NULL);
	assert_int_equal(w.woken, woken);
	assert_in_range(now_ms() - start, 0, 10000);
}

static void by_topic(struct hub *h)
{
	hub_notify(h, "queue");
}

static void by_all(struct hub *h)
{
	hub_notify(h, NULL);
}

static void test_wakes(void **state)
{
	wake(*state, by_topic, true);
	wake(*state, by_all, true);
}

static void test_stop(void **state)
{
	struct hub *h = *state;
	assert_false(hub_is_stopped(h));
	wake(h, hub_stop, false);
	assert_true(hub_is_stopped(h));
	assert_false(hub_wait(h, "queue", hub_count(h, "queue"), 20000));
	assert_false(hub_wait(h, "queue", hub_count(h, "queue") - 1, 20000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_counts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wakes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stop, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
