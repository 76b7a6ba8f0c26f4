// SPDX-License-Identifier: Apache-2.0
#include "base/yaml.h"

#include "base/buffer.h"
#include "base/json_write.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define TABS	"tabs cannot indent YAML, use spaces"
#define ANCHORS "anchors and aliases (&name, *name) are not supported, write the value out"

static const struct {
	const char *input, *expected; // as JSON
} accepted[] = {
	{"", "null"},
	{"# only a comment\n", "null"},
	{"---\n...\n", "null"},
	{"a: 1\nb: -2\nc: 0\n", "{\"a\":1,\"b\":-2,\"c\":0}"},
	{"[null, ~, true, false]", "[null,null,true,false]"},
	{"a:\nb: ''", "{\"a\":null,\"b\":\"\"}"},
	{"[Null, True, FALSE, yes, no, on, off]",
		"[\"Null\",\"True\",\"FALSE\",\"yes\",\"no\",\"on\",\"off\"]"},
	{"[1.5, -0.5e-3, 1e3, 2., 1e-4]", "[1.5,-0.0005,1000.0,2.0,0.0001]"},
	{"[012, 0x1f, 0o17, +5, .5, 1_000, 1:30, .inf, -, 1e, 1.2.3, 2026-11-23]",
		"[\"012\",\"0x1f\",\"0o17\",\"+5\",\".5\",\"1_000\",\"1:30\",\".inf\",\"-\",\"1e\","
		"\"1.2.3\",\"2026-11-23\"]"},
	{"['1', \"true\", 'null', \"~\"]", "[\"1\",\"true\",\"null\",\"~\"]"},
	{"a: |\n  x\n   y\nb: >-\n  x\n  y\nc: |\n  1\n",
		"{\"a\":\"x\\n y\\n\",\"b\":\"x y\",\"c\":\"1\\n\"}"},
	{"!!str 1", "\"1\""},
	{"[! 1, !!int '1', !!float 2, !!bool 'true', !!null '']", "[\"1\",1,2,true,null]"},
	{"!!map {a: !!seq [1]}", "{\"a\":[1]}"},
	{"1: a\ntrue: b\n~: c\n", "{\"1\":\"a\",\"true\":\"b\",\"~\":\"c\"}"},
	{"'<<': 1\n'': 2\n", "{\"<<\":1,\"\":2}"},
	{"\xef\xbb\xbf"
	 "a: 1\r\nb: [x,\r\n y]\r\n",
		"{\"a\":1,\"b\":[\"x\",\"y\"]}"},
	{"{\"a\":\"\\ud83d\\ude00\",\n\t\"b\":[1,2]}", "{\"a\":\"\xf0\x9f\x98\x80\",\"b\":[1,2]}"},
	{"\t\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\""},
	{"[\"\xe2\x80\xa8%TAG\"]", "[\"\xe2\x80\xa8%TAG\"]"},
	{"{a: 1, b}", "{\"a\":1,\"b\":null}"},
	{"%YAML 1.1\n---\n- \xc3\xa9\n- \"\\xe9\"\n", "[\"\xc3\xa9\",\"\xc3\xa9\"]"},
	{"a: 100 %TAG", "{\"a\":\"100 %TAG\"}"},
	{"s: a # comment\nt: a#b", "{\"s\":\"a\",\"t\":\"a#b\"}"},
	{"i: [9223372036854775807, -9223372036854775808]",
		"{\"i\":[9223372036854775807,-9223372036854775808]}"},
};

static void test_accepted(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(accepted); i++) {
		cleanup_arena struct arena a = {0};
		cleanup_json_writer struct json_writer *w = json_writer_new(false);
		cleanup_buffer struct buffer out = {0};
		struct error err = {0};
		const char *input = accepted[i].input;
		const struct json *root =
			yaml_parse(&a, input, strlen(input), "job.yaml", NULL, &err);
		if (!root)
			fail_msg("%s: %s", input, err.text);
		json_write_tree(w, root);
		assert_int_equal(json_writer_finish(w, &out, &err), 0);
		assert_string_equal(out.data, accepted[i].expected);
	}
}

static const struct {
	const char *input, *expected;
} refused[] = {
	{"a:\n\tb: 1", "2:1: found character that cannot start any token; " TABS},
	{"a:\n  b: 1\n\tc: 2", "3:1: found a tab character that violates indentation while "
			       "scanning a plain scalar "
			       "that begins at 2:6; " TABS},
	{"a: |\n\tb", "2:1: found a tab character where an indentation space is expected while "
		      "scanning a "
		      "block scalar that begins at 1:4; " TABS},
	{"a: @x",
		"1:4: found character that cannot start any token; put text that begins with this "
		"character in quotes"},
	{"a: b: c", "1:5: mapping values are not allowed in this context; check the indentation, "
		    "and put "
		    "text that contains \": \" in quotes"},
	{"a: \"x\nb: 1",
		"2:5: found unexpected end of stream while scanning a quoted scalar that begins at "
		"1:4; is a closing quote missing?"},
	{"a: [1, 2\nb: 3", "2:2: did not find expected ',' or ']' while parsing a flow sequence "
			   "that begins at "
			   "1:4; is a comma or a closing bracket missing?"},
	{"- a\nb: 2",
		"2:1: did not find expected '-' indicator while parsing a block collection that "
		"begins at 1:1; check the indentation of this line"},
	{"a: \"C:\\data\"",
		"1:7: found unknown escape character while parsing a quoted scalar; double the "
		"backslash, or use single quotes"},
	{"a: - b",
		"1:4: block sequence entries are not allowed in this context; a list begins on a "
		"line of its own"},
	{"a: {", "1:5: did not find expected node content while parsing a flow node; a value is "
		 "missing"},
	{"a: 1\nb: 2\na: 3", "3:1: duplicate key \"a\", first at 1:1"},
	{"{\"a\": 1, a: 2}", "1:10: duplicate key \"a\", first at 1:2"},
	{"x: &a 1", "1:4: " ANCHORS},
	{"x: &a [1]", "1:4: " ANCHORS},
	{"x: &a {b: 1}", "1:4: " ANCHORS},
	{"&a x: 1", "1:1: " ANCHORS},
	{"x: *a", "1:4: " ANCHORS},
	{"<<: {a: 1}", "1:1: merge keys (<<) are not supported, write the members out"},
	{"? [1]\n: 2", "1:3: a key must be a simple value"},
	{"{{a: 1}: 2}", "1:2: a key must be a simple value"},
	{"? \n: 2", "1:2: a key is missing"},
	{"--- 1\n--- 2", "2:1: a second document, only one is read"},
	{"a: !!int x", "1:4: \"x\" does not fit its tag (integer)"},
	{"a: !!bool 1", "1:4: \"1\" does not fit its tag (boolean)"},
	{"a: !!binary aGk=", "1:4: the tag !!binary is not supported, remove it"},
	{"a: !foo [1]", "1:4: the tag !foo is not supported, remove it"},
	{"a: !!seq {b: 1}", "1:4: the tag !!seq is not supported, remove it"},
	{"%TAG !a! tag:yaml.org,2002:\n--- !a!str 1",
		"1:1: %TAG directives are not supported, remove it"},
	{"# x\xe2\x80\xa8%TAG ! x\n--- 1", "1:5: %TAG directives are not supported, remove it"},
	{"a: \"\\0\"", "1:4: a NUL character in a string"},
	{"a: \x01", "1:4: control characters are not allowed"},
	{"a: \xff", "1:4: invalid UTF-8; save the file as UTF-8"},
	{"\xff\xfe"
	 "a",
		"1:1: invalid UTF-8; save the file as UTF-8"},
	{"a: 99999999999999999999",
		"1:4: the integer 99999999999999999999 does not fit into 64 bits; if it is a name, "
		"quote it"},
	{"commit: 12e4567", "1:9: the number 12e4567 is too large; if it is a name, quote it"},
};

static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(refused); i++) {
		cleanup_arena struct arena a = {0};
		struct error err = {0};
		const char *input = refused[i].input;
		if (yaml_parse(&a, input, strlen(input), "job.yaml", NULL, &err))
			fail_msg("%s: accepted", input);
		assert_int_equal(err.kind, ERROR_INVALID);
		assert_true(starts_with(err.text, "job.yaml:"));
		assert_string_equal(err.text + strlen("job.yaml:"), refused[i].expected);
	}
}

static void test_raw_nul(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	assert_null(yaml_parse(&a, "a: 1\nb\0: 2", 10, "job.yaml", NULL, &err));
	assert_string_equal(err.text, "job.yaml:2:2: a NUL character");
}

static void test_limits(void **state)
{
	(void)state;
	static const struct json_limits limits = {.bytes = 20, .depth = 2, .nodes = 4};
	static const struct {
		const char *input, *expected;
	} cases[] = {
		{"[[[]]]", "x:1:3: nested more than 2 levels deep"},
		{"- - - a", "x:1:5: nested more than 2 levels deep"},
		{"a: {b: {c: 1}}", "x:1:8: nested more than 2 levels deep"},
		{"- 1\n- 2\n- 3\n- 4", "x:4:3: more than 4 values"},
		{"a: 1                 ", "x: 21 bytes, at most 20 are read"},
	};
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct error err = {0};
		const char *input = cases[i].input;
		assert_null(yaml_parse(&a, input, strlen(input), "x", &limits, &err));
		assert_int_equal(err.kind, ERROR_LIMIT);
		assert_string_equal(err.text, cases[i].expected);
	}
}

static void test_places(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	static const char text[] = "# \xc3\xa9\n\xc3\xa9:\n  - x: \xc3\xa9\n    y: [1]\n";
	const struct json *root = yaml_parse(&a, text, sizeof(text) - 1, "x", NULL, &err);
	assert_non_null(root);
	assert_int_equal(root->line, 2);
	assert_int_equal(root->members[0].line, 2);
	assert_int_equal(root->members[0].column, 1);
	const struct json *item = &root->members[0].value.members[0].value;
	assert_int_equal(item->line, 3);
	assert_int_equal(item->column, 5);
	assert_int_equal(json_get(item, "x")->column, 8);
	assert_int_equal(json_get(item, "y")->line, 4);
	assert_int_equal(item->members[1].column, 5);
}

// Deep and wide hostile documents end early; quadratic work here would take minutes.
static void test_hostile(void **state)
{
	(void)state;
	static const char *const parts[] = {
		"[", "{", "- ", "? ", "{a: ", "[\n", "!", "a:\n ", "\"", "%TAG ! x\n", "#"};
	for (size_t i = 0; i < array_size(parts); i++) {
		cleanup_arena struct arena a = {0};
		cleanup_buffer struct buffer text = {0};
		struct error err = {0};
		for (size_t n = 0; n < 20000; n++)
			buffer_puts(&text, parts[i]);
		const struct json *root = yaml_parse(&a, text.data, text.size, "x", NULL, &err);
		if (streq(parts[i], "#"))
			assert_int_equal(root->type, JSON_NULL);
		else
			assert_null(root);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_raw_nul),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_hostile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
