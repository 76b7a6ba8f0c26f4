// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void test_affixes(void **state)
{
	(void)state;
	assert_true(starts_with("abc", "ab"));
	assert_true(starts_with("abc", ""));
	assert_false(starts_with("ab", "abc"));
	assert_true(ends_with("abc", "bc"));
	assert_true(ends_with("abc", ""));
	assert_false(ends_with("c", "bc"));
}

static void test_numbers(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool ok;
		uint64_t value;
		const char *why;
	} cases[] = {
		{"0", true, 0, "zero"},
		{"007", true, 7, "leading zeros are decimal"},
		{"18446744073709551615", true, UINT64_MAX, "the largest"},
		{"18446744073709551616", false, 0, "overflow in the addition"},
		{"99999999999999999999", false, 0, "overflow in the multiplication"},
		{"", false, 0, "empty"},
		{"+1", false, 0, "sign"},
		{"-1", false, 0, "sign"},
		{" 1", false, 0, "space"},
		{"1 ", false, 0, "something behind"},
		{"0x10", false, 0, "hexadecimal"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t value = 12345;
		if (parse_u64(cases[i].text, &value) != cases[i].ok)
			fail_msg("'%s': %s", cases[i].text, cases[i].why);
		assert_int_equal(value, cases[i].ok ? cases[i].value : 12345);
	}
	uint64_t value;
	assert_true(parse_u64_n("12x", 2, &value));
	assert_int_equal(value, 12);
	assert_false(parse_u64_n("12", 0, &value));
}

static void test_signed(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool ok;
		int64_t value;
	} cases[] = {
		{"9223372036854775807", true, INT64_MAX},
		{"9223372036854775808", false, 0},
		{"-9223372036854775808", true, INT64_MIN},
		{"-9223372036854775809", false, 0},
		{"-0", true, 0},
		{"--1", false, 0},
		{"-", false, 0},
		{"", false, 0},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t value = 1;
		if (parse_i64(cases[i].text, &value) != cases[i].ok)
			fail_msg("'%s'", cases[i].text);
		if (cases[i].ok)
			assert_true(value == cases[i].value);
	}
}

static void test_sizes(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool ok;
		uint64_t value;
	} cases[] = {
		{"512", true, 512},
		{"512b", true, 512},
		{"64k", true, 64 << 10},
		{"64K", true, 64 << 10},
		{"64kb", true, 64 << 10},
		{"2g", true, 2ULL << 30},
		{"1GiB", true, 1ULL << 30},
		{"3MB", true, 3 << 20},
		{"1t", true, 1ULL << 40},
		{"16777215t", true, 16777215ULL << 40},
		{"16777216t", false, 0},
		{"1.5g", false, 0},
		{"", false, 0},
		{"k", false, 0},
		{"1bb", false, 0},
		{"1ib", false, 0},
		{"1gx", false, 0},
		{"1 g", false, 0},
		{"-1", false, 0},
		{"1\xeb", false, 0},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t value = 0;
		if (parse_size(cases[i].text, &value) != cases[i].ok)
			fail_msg("'%s'", cases[i].text);
		assert_int_equal(value, cases[i].value);
	}
}

static void test_format_size(void **state)
{
	(void)state;
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{0, "0 B"},
		{999, "999 B"},
		{1000, "1.00 kB"},
		{9994, "9.99 kB"},
		{9999, "10.0 kB"},
		{12345678, "12.3 MB"},
		{999499, "999 kB"},
		{999500, "1.00 MB"},
		{1060000000, "1.06 GB"},
		{UINT64_MAX, "18.4 EB"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[FORMAT_SIZE_MAX];
		assert_string_equal(format_size(cases[i].bytes, text), cases[i].text);
	}
}

static void test_flatten(void **state)
{
	(void)state;
	static const struct {
		const char *text, *flat, *why;
	} cases[] = {
		{"", "", "empty"},
		{"a b~", "a b~", "plain"},
		{"a\nb\r\tc\x1b[0m\x7f", "a?b??c?[0m?", "C0 and DEL"},
		{"\xc2\x9b"
		 "31m",
			"??31m", "U+009B starts escape sequences too"},
		{"\xc2\xa0\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
			"\xc2\xa0\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "other characters stay"},
		{"a\xff\xfe"
		 "b",
			"a??b", "never UTF-8"},
		{"a\xe2\x82", "a??", "cut in a character"},
		{"\xc0\xaf", "??", "overlong"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[64];
		snprintf(text, sizeof(text), "%s", cases[i].text);
		text_flatten(text);
		if (!streq(text, cases[i].flat))
			fail_msg("%s: '%s'", cases[i].why, text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_affixes),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_signed),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_format_size),
		cmocka_unit_test(test_flatten),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
