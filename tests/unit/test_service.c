// SPDX-License-Identifier: Apache-2.0
#include "agent/service/service.h"

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_names(void **state)
{
	(void)state;
	static const struct {
		const char *bytes, *name;
	} cases[] = {
		{"outputs/model.pkl", "outputs/model.pkl"},
		{"outputs/100%", "outputs/100%25"},
		{"a\nb", "a%0Ab"},
		{"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
		{"\xff", "%FF"},
		{"a\xc3", "a%C3"},
		{"\xc3\xbc\xfe\xc3\xbc\x80x", "\xc3\xbc%FE\xc3\xbc%80x"},
		{"", ""},
	};
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		assert_string_equal(service_name(&a, cases[i].bytes), cases[i].name);
		assert_string_equal(service_name_bytes(&a, cases[i].name), cases[i].bytes);
	}
}

static void test_no_names(void **state)
{
	(void)state;
	static const char *const bad[] = {"%", "%4", "%zz", "a%0", "%00", "%ff"};
	for (size_t i = 0; i < array_size(bad); i++) {
		cleanup_arena struct arena a = {0};
		assert_null(service_name_bytes(&a, bad[i]));
	}
}

static void test_escape(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	assert_string_equal(service_escape(&a, "a b/c%?#\xc3\xbc", true), "a%20b/c%25%3F%23%C3%BC");
	assert_string_equal(service_escape(&a, "a/b", false), "a%2Fb");
}

static void test_urls(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "host:1", "ftp://host", "https://",
		"https://u:p@host", "http://a b", "https://h/?x"};
	for (size_t i = 0; i < array_size(bad); i++) {
		struct error err;
		assert_null(service_open(
			&(struct service_settings){.url = bad[i], .cancel_fd = -1}, &err));
		assert_int_equal(err.kind, ERROR_INVALID);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_no_names),
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_urls),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
