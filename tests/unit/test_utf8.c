// SPDX-License-Identifier: Apache-2.0
#include "base/utf8.h"

#include "base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct {
	const char *input;
	size_t expected; // offset of the first bad byte
	const char *why;
} cases[] = {
	{"", 0, "empty"},
	{"plain", 5, "ASCII"},
	{"a longer run of ASCII text", 26, "the fast path"},
	{"\xc3\xa9", 2, "two bytes"},
	{"\xe2\x82\xac", 3, "three bytes"},
	{"\xf0\x9f\x98\x80", 4, "four bytes"},
	{"\xf4\x8f\xbf\xbf", 4, "the last code point"},
	{"12345678\xc3\xa9 12345678\xff", 19, "behind two fast runs"},
	{"a\x80", 1, "a continuation alone"},
	{"ab\xc3", 2, "cut in two"},
	{"\xe2\x82", 0, "cut in three"},
	{"\xf0\x9f\x98", 0, "cut in four"},
	{"\xc0\x80", 0, "overlong NUL"},
	{"\xc1\xbf", 0, "overlong in two"},
	{"\xe0\x9f\xbf", 0, "overlong in three"},
	{"\xf0\x8f\xbf\xbf", 0, "overlong in four"},
	{"\xed\xa0\x80", 0, "a surrogate"},
	{"\xed\x9f\xbf", 3, "the last before the surrogates"},
	{"\xf4\x90\x80\x80", 0, "above U+10FFFF"},
	{"\xf5\x80\x80\x80", 0, "no such first byte"},
	{"\xe2\x28\xa1", 0, "a second byte that is none"},
	{"\xe2\x82\x28", 0, "a third byte that is none"},
};

static void test_valid(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		size_t size = strlen(cases[i].input);
		// On the heap without a NUL, so that a read too far is seen.
		cleanup_free char *copy = xmemdup(cases[i].input, size);
		size_t found = utf8_valid(copy, size);
		if (found != cases[i].expected)
			fail_msg("%s: %zu, not %zu", cases[i].why, found, cases[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_valid)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
