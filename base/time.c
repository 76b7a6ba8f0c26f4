// SPDX-License-Identifier: Apache-2.0
#include "base/time.h"

#include <stdio.h>
#include <time.h>

static int64_t clock_ms(clockid_t clock)
{
	struct timespec t = {0};
	clock_gettime(clock, &t); // cannot fail for these clocks and a valid pointer
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t now_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC);
}

int64_t wall_ms(void)
{
	return clock_ms(CLOCK_REALTIME);
}

const char *format_time(int64_t unix_ms, char text[TIME_TEXT_SIZE])
{
	const int64_t last = 253402300799999; // 9999-12-31T23:59:59.999Z
	if (unix_ms < 0)
		unix_ms = 0;
	if (unix_ms > last)
		unix_ms = last;
	time_t seconds = (time_t)(unix_ms / 1000);
	struct tm tm = {0};
	gmtime_r(&seconds, &tm);
	size_t n = strftime(text, TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, TIME_TEXT_SIZE - n, ".%03dZ", (int)(unix_ms % 1000));
	return text;
}
