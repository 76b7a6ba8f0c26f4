// SPDX-License-Identifier: Apache-2.0
#include "controller/http/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void test_bucket(void **state)
{
	cleanup_rates struct rates *r = rates_new();
	(void)state;
	for (int i = 0; i < 40; i++)
		assert_int_equal(rates_take(r, "a", 10, 1000), 0);
	int64_t wait = rates_take(r, "a", 10, 1000);
	assert_in_range(wait, 100, 102);
	assert_int_equal(rates_take(r, "b", 10, 1000), 0); // another one's
	assert_int_equal(rates_take(r, "a", 10, 1000 + wait), 0);
	assert_int_not_equal(rates_take(r, "a", 10, 1000 + wait), 0);
	// It never holds more than the burst, and a clock that goes back takes nothing away.
	int taken = 0;
	while (rates_take(r, "a", 10, 10000000) == 0)
		taken++;
	assert_int_equal(taken, 40);
	assert_int_not_equal(rates_take(r, "a", 10, 5000), 0);
	assert_int_equal(rates_take(r, "a", 10, 10000200), 0);
}

static void test_many(void **state)
{
	cleanup_rates struct rates *r = rates_new();
	(void)state;
	for (int i = 0; i < 200000; i++) {
		char key[32];
		snprintf(key, sizeof(key), "token%d", i);
		assert_int_equal(rates_take(r, key, 1, i), 0);
	}
	// One that is busy stays among them.
	int refused = 0;
	for (int i = 0; i < 1000; i++) {
		char key[32];
		snprintf(key, sizeof(key), "other%d", i);
		rates_take(r, key, 1, 300000 + i);
		refused += rates_take(r, "busy", 1, 300000 + i) > 0;
	}
	assert_in_range(refused, 990, 999);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bucket),
		cmocka_unit_test(test_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
