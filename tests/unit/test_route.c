// SPDX-License-Identifier: Apache-2.0
#include "base/buffer.h"
#include "base/text.h"
#include "controller/http/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_targets(void **state)
{
	static const struct {
		const char *text, *joined; // segments by '|', then "?name=value" of the query
	} good[] = {
		{"/", ""},
		{"/v1/runs", "v1|runs"},
		{"/v1/", "v1"},
		{"/a%20b/c+d", "a b|c+d"},
		{"/%c3%a9%F0%9F%98%80", "é😀"},
		{"/a%2Fb", "a/b"},
		{"/...", "..."},
		{"/a?", "a"},
		{"/a?x", "a?x="},
		{"/a?x=1&y=a+b%2B&&z=%3d=", "a?x=1?y=a b+?z==="},
		{"/a?q=/../%2e", "a?q=/../."},
		{"/%25zz", "%zz"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(good); i++) {
		cleanup_arena struct arena a = {0};
		cleanup_buffer struct buffer b = {0};
		struct target t;
		struct error err;
		assert_int_equal(target_parse(&a, good[i].text, &t, &err), 0);
		for (size_t s = 0; s < t.segment_count; s++)
			buffer_printf(&b, "%s%s", s ? "|" : "", t.segments[s]);
		for (size_t q = 0; q < t.query_count; q++)
			buffer_printf(&b, "?%s=%s", t.query[q].name, t.query[q].value);
		assert_string_equal(b.data ? b.data : "", good[i].joined);
	}
}

static void test_targets_refused(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"", "the URL has no path"},
		{"*", "the URL has no path"},
		{"http://x/", "the URL has no path"},
		{"/%", "two hexadecimal digits"},
		{"/%4", "two hexadecimal digits"},
		{"/%4/b", "two hexadecimal digits"},
		{"/%g0", "two hexadecimal digits"},
		{"/a?%0", "two hexadecimal digits"},
		{"/%00", "NUL"},
		{"/a?b=%00", "NUL"},
		{"/\xff", "not UTF-8"},
		{"/%ff", "not UTF-8"},
		{"/%c0%ae%c0%ae", "not UTF-8"},
		{"/%ed%a0%80", "not UTF-8"},
		{"/a?%80", "not UTF-8"},
		{"//a", "an empty part"},
		{"/a//b", "an empty part"},
		{"/a/./b", "\".\""},
		{"/a/..", "\"..\""},
		{"/%2e%2E/b", "\"..\""},
		{"/a%2f..%2fb", "\"..\""},
		{"/a%2f", "an empty part"},
		{"/a?x=1&x=2", "\"x\" twice"},
		{"/a?%78=1&x=2", "\"x\" twice"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(bad); i++) {
		cleanup_arena struct arena a = {0};
		struct target t;
		struct error err = {0};
		assert_int_equal(target_parse(&a, bad[i].text, &t, &err), -1);
		assert_int_equal(err.kind, ERROR_INVALID);
		if (!strstr(err.text, bad[i].why))
			fail_msg("%s: %s", bad[i].text, err.text);
	}
}

static void test_target_limits(void **state)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer b = {0};
	struct target t;
	struct error err;
	(void)state;
	buffer_puts(&b, "/");
	while (b.size < TARGET_MAX)
		buffer_putc(&b, 'x');
	assert_int_equal(target_parse(&a, b.data, &t, &err), 0);
	buffer_putc(&b, 'x');
	assert_int_equal(target_parse(&a, b.data, &t, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	buffer_clear(&b);
	buffer_puts(&b, "/a?");
	for (int i = 0; i < 64; i++)
		buffer_printf(&b, "%d&", i);
	assert_int_equal(target_parse(&a, b.data, &t, &err), -1);
}

static void test_match(void **state)
{
	static const struct {
		const char *pattern, *target, *parameters; // NULL: no match
	} cases[] = {
		{"/", "/", ""},
		{"/v1/", "/v1", ""},
		{"/v1/", "/v1/", ""},
		{"/v1/", "/v1/x", NULL},
		{"/v1/runs", "/v1/runs/", ""},
		{"/v1/runs", "/v1/run", NULL},
		{"/v1/runs", "/v1/runsx", NULL},
		{"/v1/runs/{run}", "/v1/runs", NULL},
		{"/v1/runs/{run}", "/v1/runs/a", "run=a;"},
		{"/v1/runs/{run}", "/v1/runs/a%2fb", NULL},
		{"/v1/runs/{run}", "/v1/runs/a/b", NULL},
		{"/v1/runs/{run}/files/{path*}", "/v1/runs/a/files", NULL},
		{"/v1/runs/{run}/files/{path*}", "/v1/runs/a/files/b", "run=a;path=b;"},
		{"/v1/runs/{run}/files/{path*}", "/v1/runs/a/files/b/c%20d/e",
			"run=a;path=b/c d/e;"},
		{"/v1/runs/{run}/files/{path*}", "/v1/runs/a/files/b%2Fc", "run=a;path=b/c;"},
		{"/v1/models/{name}/{version}/files", "/v1/models/m/3/files", "name=m;version=3;"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		cleanup_buffer struct buffer b = {0};
		struct target t;
		struct parameters p;
		struct error err;
		assert_int_equal(target_parse(&a, cases[i].target, &t, &err), 0);
		bool matches = route_match(&a, cases[i].pattern, &t, &p);
		if (matches != (cases[i].parameters != NULL))
			fail_msg("%s, %s", cases[i].pattern, cases[i].target);
		for (size_t k = 0; matches && k < p.count; k++)
			buffer_printf(&b, "%s=%s;", p.items[k].name, p.items[k].value);
		if (matches)
			assert_string_equal(b.data ? b.data : "", cases[i].parameters);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_targets_refused),
		cmocka_unit_test(test_target_limits),
		cmocka_unit_test(test_match),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
