// SPDX-License-Identifier: Apache-2.0
#include "base/time.h"

#include "base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void reads_times(void **state)
{
	static const struct {
		const char *text;
		int64_t us; // -1: refused
	} cases[] = {
		{"1970-01-01T00:00:00Z", 0},
		{"2026-11-23T10:00:00.000Z", 1795428000000000},
		{"2026-11-23t10:00:00z", 1795428000000000},
		{"2026-11-23 10:00:00", 1795428000000000},
		{"2026-11-23", 1795392000000000},
		{"2026-11-23T10:00:00.5Z", 1795428000500000},
		{"2026-11-23T10:00:00.123456789Z", 1795428000123456},
		{"2026-11-23T12:30:00+02:30", 1795428000000000},
		{"2026-11-23T07:00:00-03:00", 1795428000000000},
		{"2028-02-29T00:00:00Z", 1835395200000000},
		{"2027-02-29T00:00:00Z", -1},
		{"2100-02-29T00:00:00Z", -1},
		{"2026-04-31", -1},
		{"2026-13-01", -1},
		{"2026-00-01", -1},
		{"1969-12-31T23:59:59Z", -1},
		{"2026-11-23T", -1},
		{"2026-11-23T10:00Z", -1},
		{"2026-11-23T24:00:00Z", -1},
		{"2026-11-23T10:00:00.Z", -1},
		{"2026-11-23T10:00:00+0200", -1},
		{"2026-11-23T10:00:00Z ", -1},
		{"26-11-23", -1},
		{"2026-11-2", -1},
		{"", -1},
		{"now", -1},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		int64_t us = -1;
		if (parse_time(cases[i].text, &us) != (cases[i].us >= 0) || us != cases[i].us)
			fail_msg("%s: %lld", cases[i].text, (long long)us);
	}
}

static void reads_what_it_writes(void **state)
{
	static const int64_t times[] = {0, 1, 999, 951782400000, 1795428000123, 253402300799999};
	(void)state;
	for (size_t i = 0; i < array_size(times); i++) {
		char text[TIME_TEXT_SIZE];
		int64_t us;
		assert_true(parse_time(format_time(times[i], text), &us));
		assert_int_equal(us, times[i] * 1000);
	}
}

static void reads_durations(void **state)
{
	static const struct {
		const char *text;
		int64_t seconds; // -1: refused
	} cases[] = {
		{"0", 0},
		{"90", 90},
		{"90s", 90},
		{"10m", 600},
		{"2h30m", 9000},
		{"1d", 86400},
		{"1d2h3m4s", 93784},
		{"36500d", 3153600000},
		{"36526d", -1},
		{"99999999999999999999", -1},
		{"", -1},
		{"m", -1},
		{"1", 1},
		{"1h30", -1},
		{"30m2h", -1},
		{"1h1h", -1},
		{"-1h", -1},
		{"1.5h", -1},
		{"1 h", -1},
		{"1w", -1},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		int64_t seconds = -1;
		if (parse_duration(cases[i].text, &seconds) != (cases[i].seconds >= 0) ||
			seconds != cases[i].seconds)
			fail_msg("%s: %lld", cases[i].text, (long long)seconds);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_times),
		cmocka_unit_test(reads_what_it_writes),
		cmocka_unit_test(reads_durations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
