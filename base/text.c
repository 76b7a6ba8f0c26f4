// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

bool starts_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool ends_with(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);
	return n >= m && streq(s + n - m, suffix);
}

bool parse_u64_n(const char *s, size_t n, uint64_t *value)
{
	uint64_t v = 0;
	if (!n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		if (__builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
			return false;
	}
	*value = v;
	return true;
}

bool parse_u64(const char *s, uint64_t *value)
{
	return parse_u64_n(s, strlen(s), value);
}

bool parse_i64(const char *s, int64_t *value)
{
	bool negative = *s == '-';
	uint64_t v;
	if (!parse_u64(s + negative, &v) || v > (uint64_t)INT64_MAX + negative)
		return false;
	*value = negative ? (int64_t)-v : (int64_t)v;
	return true;
}

bool parse_size(const char *s, uint64_t *bytes)
{
	static const char units[] = "kmgt";
	size_t n = strspn(s, "0123456789");
	const char *unit = s + n;
	uint64_t v;
	if (!parse_u64_n(s, n, &v))
		return false;
	unsigned shift = 0;
	if (*unit && !strchr("bB", *unit)) {
		const char *at = strchr(units, *unit | 0x20);
		if (!at)
			return false;
		shift = 10 * (unsigned)(at - units + 1);
		unit++;
		if (*unit && strcasecmp(unit, "b") != 0 && strcasecmp(unit, "ib") != 0)
			return false;
	} else if (*unit && unit[1]) {
		return false;
	}
	if (v > UINT64_MAX >> shift)
		return false;
	*bytes = v << shift;
	return true;
}

void text_flatten(char *s)
{
	unsigned char *p = (unsigned char *)s;
	size_t size = strlen(s);
	for (size_t at = 0; (at += utf8_valid(s + at, size - at)) < size; at++)
		p[at] = '?';
	for (; *p; p++) {
		if (*p < 0x20 || *p == 0x7f)
			*p = '?';
		if (*p == 0xc2 && p[1] < 0xa0) // U+0080 to U+009F
			p[0] = p[1] = '?';
	}
}

const char *format_size(uint64_t bytes, char text[FORMAT_SIZE_MAX])
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
	double v = (double)bytes;
	unsigned unit = 0;
	while (v >= 999.5 && unit < 6) {
		v /= 1000;
		unit++;
	}
	int digits = unit == 0 || v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2;
	snprintf(text, FORMAT_SIZE_MAX, "%.*f %s", digits, v, units[unit]);
	return text;
}
