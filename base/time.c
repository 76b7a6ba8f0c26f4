// SPDX-License-Identifier: Apache-2.0
#include "base/time.h"

#include "base/text.h"

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

int64_t wall_us(void)
{
	struct timespec t = {0};
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

struct timespec timespec_of_ns(int64_t ns)
{
	int64_t seconds = ns / 1000000000, rest = ns % 1000000000;
	if (rest < 0) {
		seconds--;
		rest += 1000000000;
	}
	return (struct timespec){.tv_sec = seconds, .tv_nsec = rest};
}

void sleep_ms(int64_t ms)
{
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	nanosleep(&time, NULL);
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

// Take `digits` digits, a number up to `most`, from the text.
static bool take_number(const char **text, size_t digits, uint64_t least, uint64_t most, int *value)
{
	uint64_t v;
	if (strnlen(*text, digits) < digits || !parse_u64_n(*text, digits, &v) || v < least ||
		v > most)
		return false;
	*text += digits;
	*value = (int)v;
	return true;
}

static bool take_char(const char **text, const char *any)
{
	if (!**text || !strchr(any, **text))
		return false;
	(*text)++;
	return true;
}

static bool take_date(const char **text, struct tm *tm)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	if (!take_number(text, 4, 1970, 9999, &tm->tm_year) || !take_char(text, "-") ||
		!take_number(text, 2, 1, 12, &tm->tm_mon) || !take_char(text, "-") ||
		!take_number(text, 2, 1, 31, &tm->tm_mday))
		return false;
	bool leap = tm->tm_year % 4 == 0 && (tm->tm_year % 100 != 0 || tm->tm_year % 400 == 0);
	bool fits = tm->tm_mday <= days[tm->tm_mon - 1] + (leap && tm->tm_mon == 2);
	tm->tm_year -= 1900;
	tm->tm_mon--;
	return fits;
}

static bool take_clock(const char **text, struct tm *tm, int64_t *us)
{
	if (!take_number(text, 2, 0, 23, &tm->tm_hour) || !take_char(text, ":") ||
		!take_number(text, 2, 0, 59, &tm->tm_min) || !take_char(text, ":") ||
		!take_number(text, 2, 0, 60, &tm->tm_sec)) // 60: a leap second
		return false;
	if (!take_char(text, "."))
		return true;
	size_t digits = strspn(*text, "0123456789");
	for (size_t i = 0, unit = 100000; i < digits; i++, unit /= 10)
		*us += (int64_t)unit * ((*text)[i] - '0');
	*text += digits;
	return digits > 0;
}

static bool take_offset(const char **text, int64_t *seconds)
{
	int hours, minutes;
	bool west = **text == '-';
	if (!**text || take_char(text, "Zz"))
		return true;
	if (!take_char(text, "+-") || !take_number(text, 2, 0, 23, &hours) ||
		!take_char(text, ":") || !take_number(text, 2, 0, 59, &minutes))
		return false;
	*seconds = (west ? -60 : 60) * (hours * 60 + minutes);
	return true;
}

bool parse_time(const char *text, int64_t *unix_us)
{
	struct tm tm = {0};
	int64_t us = 0, offset = 0;
	if (!take_date(&text, &tm))
		return false;
	if (*text && (!take_char(&text, "Tt ") || !take_clock(&text, &tm, &us) ||
			     !take_offset(&text, &offset)))
		return false;
	if (*text)
		return false;
	*unix_us = ((int64_t)timegm(&tm) - offset) * 1000000 + us;
	return true;
}

bool parse_duration(const char *text, int64_t *seconds)
{
	static const char units[] = "dhms";
	static const int64_t sizes[] = {86400, 3600, 60, 1};
	const int64_t most = 36525LL * 86400;
	int64_t total = 0;
	size_t next = 0; // of the units
	bool plain = text[strspn(text, "0123456789")] == '\0';
	if (!*text)
		return false;
	while (*text) {
		size_t digits = strspn(text, "0123456789");
		uint64_t v;
		if (!parse_u64_n(text, digits, &v) || v > (uint64_t)most)
			return false;
		text += digits;
		const char *unit = plain ? units + 3 : *text ? strchr(units, *text) : NULL;
		if (!unit || (size_t)(unit - units) < next)
			return false;
		total += (int64_t)v * sizes[unit - units];
		if (total > most)
			return false;
		next = (size_t)(unit - units) + 1;
		text += !plain;
	}
	*seconds = total;
	return true;
}
