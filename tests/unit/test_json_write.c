// SPDX-License-Identifier: Apache-2.0
#include "base/json_write.h"

#include "base/text.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void write_sample(struct json_writer *w)
{
	json_write_open_object(w);
	json_write_member(w, "a/b", "x\n\"\xc3\xa9\x01");
	json_write_member(w, "none", NULL);
	json_write_member_int(w, "least", INT64_MIN);
	json_write_member_unsigned(w, "most", UINT64_MAX);
	json_write_member_bool(w, "yes", true);
	json_write_key(w, "list");
	json_write_open_array(w);
	json_write_double(w, 0.1);
	json_write_double(w, 3);
	json_write_double(w, 1e300);
	json_write_open_object(w);
	json_write_close_object(w);
	json_write_null(w);
	json_write_close_array(w);
	json_write_key(w, "empty");
	json_write_open_array(w);
	json_write_close_array(w);
	json_write_close_object(w);
}

static void test_text(void **state)
{
	(void)state;
	static const char *const expected[] = {
		"{\"a/b\":\"x\\n\\\"\xc3\xa9\\u0001\",\"none\":null,"
		"\"least\":-9223372036854775808,\"most\":18446744073709551615,\"yes\":true,"
		"\"list\":[0.1,3.0,1e+300,{},null],\"empty\":[]}",
		"{\n"
		"  \"a/b\": \"x\\n\\\"\xc3\xa9\\u0001\",\n"
		"  \"none\": null,\n"
		"  \"least\": -9223372036854775808,\n"
		"  \"most\": 18446744073709551615,\n"
		"  \"yes\": true,\n"
		"  \"list\": [\n"
		"    0.1,\n"
		"    3.0,\n"
		"    1e+300,\n"
		"    {},\n"
		"    null\n"
		"  ],\n"
		"  \"empty\": []\n"
		"}\n",
	};
	for (int pretty = 0; pretty < 2; pretty++) {
		cleanup_json_writer struct json_writer *w = json_writer_new(pretty);
		cleanup_buffer struct buffer out = {0};
		struct error err = {0};
		buffer_puts(&out, "before ");
		write_sample(w);
		assert_int_equal(json_writer_finish(w, &out, &err), 0);
		assert_memory_equal(out.data, "before ", 7);
		assert_string_equal(out.data + 7, expected[pretty]);
	}
}

static void test_scalars(void **state)
{
	(void)state;
	static const struct {
		double value;
		const char *expected;
	} cases[] = {
		{0, "0.0"},
		{-0.0, "-0.0"},
		{0.1 + 0.2, "0.30000000000000004"},
		{1.0 / 3, "0.3333333333333333"},
		{1e15, "1e+15"},
		{123456, "123456.0"},
		{5e-324, "4.94065645841247e-324"},
	};
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_json_writer struct json_writer *w = json_writer_new(false);
		cleanup_buffer struct buffer out = {0};
		struct error err = {0};
		json_write_double(w, cases[i].value);
		assert_int_equal(json_writer_finish(w, &out, &err), 0);
		assert_string_equal(out.data, cases[i].expected);
		assert_true(strtod(out.data, NULL) == cases[i].value);
	}
}

static void test_empty_root(void **state)
{
	(void)state;
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer out = {0};
	struct error err = {0};
	json_write_open_object(w);
	json_write_close_object(w);
	assert_int_equal(json_writer_finish(w, &out, &err), 0);
	assert_string_equal(out.data, "{}\n");
}

static void write_nothing(struct json_writer *w)
{
	(void)w;
}

static void write_open(struct json_writer *w)
{
	json_write_open_object(w);
	json_write_key(w, "a");
	json_write_open_array(w);
}

static void write_two(struct json_writer *w)
{
	json_write_int(w, 1);
	json_write_int(w, 2);
}

static void write_no_key(struct json_writer *w)
{
	json_write_open_object(w);
	json_write_int(w, 1);
}

static void write_no_value(struct json_writer *w)
{
	json_write_open_object(w);
	json_write_key(w, "a");
	json_write_close_object(w);
}

static void write_two_keys(struct json_writer *w)
{
	json_write_open_object(w);
	json_write_key(w, "a");
	json_write_key(w, "b");
}

static void write_wrong_close(struct json_writer *w)
{
	json_write_open_array(w);
	json_write_close_object(w);
}

static void write_stray_close(struct json_writer *w)
{
	json_write_close_array(w);
}

static void write_bad_text(struct json_writer *w)
{
	json_write_string(w, "\xff");
	json_write_close_array(w); // the first failure stays
}

static void write_bad_key(struct json_writer *w)
{
	json_write_open_object(w);
	json_write_member_int(w, "\xed\xa0\x80", 1);
	json_write_close_object(w);
}

static void write_infinite(struct json_writer *w)
{
	json_write_double(w, INFINITY);
}

static void write_nan(struct json_writer *w)
{
	json_write_double(w, NAN);
}

static void write_deep(struct json_writer *w)
{
	for (size_t i = 0; i < 1000; i++)
		json_write_open_array(w);
	for (size_t i = 0; i < 1000; i++)
		json_write_close_array(w);
}

static const struct {
	void (*write)(struct json_writer *w);
	const char *expected;
} failures[] = {
	{write_nothing, "write JSON: nothing was written"},
	{write_open, "write JSON: an object or array is left open"},
	{write_two, "write JSON: a second value at the top"},
	{write_no_key, "write JSON: a value without a key"},
	{write_no_value, "write JSON: an object or array closed out of place"},
	{write_two_keys, "write JSON: a key out of place"},
	{write_wrong_close, "write JSON: an object or array closed out of place"},
	{write_stray_close, "write JSON: an object or array closed out of place"},
	{write_bad_text, "write JSON: a string that is not UTF-8"},
	{write_bad_key, "write JSON: a string that is not UTF-8"},
	{write_infinite, "write JSON: a number that is not finite"},
	{write_nan, "write JSON: a number that is not finite"},
	{write_deep, "write JSON: nested too deeply"},
};

static void test_failures(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(failures); i++) {
		cleanup_json_writer struct json_writer *w = json_writer_new(i % 2);
		cleanup_buffer struct buffer out = {0};
		struct error err = {0};
		failures[i].write(w);
		assert_int_equal(json_writer_finish(w, &out, &err), -1);
		assert_int_equal(err.kind, ERROR_INVALID);
		assert_string_equal(err.text, failures[i].expected);
		assert_int_equal(out.size, 0);
	}
}

// What can be read can be written, and comes out as it went in.
static void test_tree(void **state)
{
	(void)state;
	static const char text[] =
		"{\"a\":[1,-2.5,true,null,\"x\\u0001\xc3\xa9\"],\"\":{\"b\":[]}}";
	cleanup_arena struct arena a = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	cleanup_buffer struct buffer out = {0};
	struct error err = {0};
	const struct json *tree = json_parse(&a, text, sizeof(text) - 1, "x", NULL, &err);
	assert_non_null(tree);
	json_write_tree(w, tree);
	assert_int_equal(json_writer_finish(w, &out, &err), 0);
	assert_string_equal(out.data, text);
}

static void test_deep_tree(void **state)
{
	(void)state;
	struct json_member levels[300] = {0};
	for (size_t i = 0; i < array_size(levels); i++) {
		levels[i].value.type = JSON_ARRAY;
		levels[i].value.count = i + 1 < array_size(levels);
		levels[i].value.members = i + 1 < array_size(levels) ? &levels[i + 1] : NULL;
	}
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	cleanup_buffer struct buffer out = {0};
	struct error err = {0};
	json_write_tree(w, &levels[0].value);
	assert_int_equal(json_writer_finish(w, &out, &err), -1);
	assert_string_equal(err.text, "write JSON: nested too deeply");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_scalars),
		cmocka_unit_test(test_empty_root),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_tree),
		cmocka_unit_test(test_deep_tree),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
