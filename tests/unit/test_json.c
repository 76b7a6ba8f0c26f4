// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include "base/buffer.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct {
	const char *input, *expected, *why;
} refused[] = {
	{"", "x:1:1: the document is empty", "nothing"},
	{" \n ", "x:1:1: the document is empty", "space only"},
	{"[1", "x:1:3: parse error: premature EOF", "cut"},
	{"[1,,2]", "x:1:4: parse error: unallowed token at this point in JSON text", "two commas"},
	{"[1, ]",
		"x:1:5: parse error: unallowed token at this point in JSON text; "
		"remove the comma before it",
		"a comma too many"},
	{"{\"a\": 1,\n}",
		"x:2:1: parse error: invalid object key (must be a string); "
		"remove the comma before it",
		"a comma too many in an object"},
	{"['a']", "x:1:2: lexical error: invalid char in json text; strings stand in double quotes",
		"single quotes"},
	{"[NaN]",
		"x:1:2: lexical error: invalid char in json text; "
		"JSON knows true, false, null and finite numbers only",
		"not a number"},
	{"[1] 2", "x:1:5: parse error: trailing garbage", "a second value"},
	{"[1] \"", "x:1:5: parse error: trailing garbage", "half a string behind the document"},
	{"{}\n-", "x:2:1: parse error: trailing garbage", "half a number behind it"},
	{"1 tru", "x:1:3: parse error: trailing garbage", "half a word behind it"},
	{"\"a\"nul", "x:1:4: parse error: trailing garbage", "half a word at once"},
	{"{\"a\" 1}", "x:1:6: parse error: object key and value must be separated by a colon (':')",
		"no colon"},
	{"[1] // x", "x:1:5: parse error: trailing garbage; JSON has no comments, remove it",
		"a comment behind the document"},
	{"/* x */ [1]",
		"x:1:1: lexical error: probable comment found in input text, comments are not "
		"enabled; JSON has no comments, remove it",
		"a comment before it"},
	{"[\n  01]", "x:2:4: parse error: after array element, I expect ',' or ']'", "octal"},
	{"[-]", "x:1:2: lexical error: malformed number, a digit is required after the minus sign",
		"a sign alone"},
	{"[\"a\nb\"]", "x:1:2: lexical error: invalid character inside string", "a raw line break"},
	{"[\"\\x41\"]",
		"x:1:2: lexical error: inside a string, '\\' occurs before a character which it "
		"may not",
		"an unknown escape"},
	{"[\"\\u00\"]",
		"x:1:2: lexical error: invalid (non-hex) character occurs after '\\u' inside "
		"string",
		"an escape cut short"},
	{"[1,\f2]", "x:1:4: control characters are not allowed", "yajl takes it for space"},
	{"\v[1]", "x:1:1: control characters are not allowed", "yajl takes it for space"},
	{"{1: 2}", "x:1:2: parse error: invalid object key (must be a string)", "a number as key"},
	{"[\"\\u0000\"]", "x:1:3: a NUL character in a string", "NUL in a string"},
	{"{\"a\\u0000b\": 1}", "x:1:4: a NUL character in a string", "NUL in a key"},
	{"[\"\\ud800x\"]", "x:1:3: half a surrogate pair in a string", "high alone"},
	{"[\"\\udc00\"]", "x:1:3: half a surrogate pair in a string", "low alone"},
	{"[\"\\ud800\\u0041\"]", "x:1:3: half a surrogate pair in a string", "high and a letter"},
	{"[\"\\ud800\\ud800\"]", "x:1:3: half a surrogate pair in a string", "high twice"},
	{"[\"\xc3\xa9\xff\"]", "x:1:4: invalid UTF-8; save the file as UTF-8", "not UTF-8"},
	{"[\"\xed\xa0\x80\"]", "x:1:3: invalid UTF-8; save the file as UTF-8", "a surrogate"},
	{"[\"\xc0\x80\"]", "x:1:3: invalid UTF-8; save the file as UTF-8", "overlong NUL"},
	{"\xef\xbb\xbf[]", "x:1:1: a byte order mark; save the file as UTF-8 without one", "BOM"},
	{"{\"a\": 1,\n \"b\": 2, \"a\": 3}", "x:2:10: duplicate key \"a\", first at 1:2", "twice"},
	{"{\"a\": 1, \"\\u0061\": 3}", "x:1:10: duplicate key \"a\", first at 1:2",
		"an escaped twin"},
	{"{\"b\":0,\"a\":1,\"b\":2,\"a\":3,\"a\":4}", "x:1:14: duplicate key \"b\", first at 1:2",
		"the first of several"},
	{"[9223372036854775808]",
		"x:1:2: the integer 9223372036854775808 does not fit into 64 bits; "
		"if it is a name, quote it",
		"an integer too large"},
	{"[-9223372036854775809]",
		"x:1:2: the integer -9223372036854775809 does not fit into 64 bits; "
		"if it is a name, quote it",
		"an integer too small"},
	{"[1e999]", "x:1:2: the number 1e999 is too large; if it is a name, quote it", "infinite"},
};

static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(refused); i++) {
		cleanup_arena struct arena a = {0};
		struct error err = {0};
		const char *input = refused[i].input;
		if (json_parse(&a, input, strlen(input), "x", NULL, &err))
			fail_msg("%s: accepted", refused[i].why);
		if (err.kind != ERROR_INVALID || !streq(err.text, refused[i].expected))
			fail_msg("%s: %s", refused[i].why, err.text);
	}
}

static void test_raw_nul(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	assert_null(json_parse(&a, "[1,\0]", 5, "x", NULL, &err));
	assert_string_equal(err.text, "x:1:4: lexical error: invalid char in json text");
	assert_null(json_parse(&a, "[\"\0\"]", 5, "x", NULL, &err));
	assert_string_equal(err.text, "x:1:2: lexical error: invalid character inside string");
}

static const struct json *member_at(const struct json *value, size_t i)
{
	assert_true(i < value->count);
	return &value->members[i].value;
}

// Limits of the kernel are unsigned; where a document has such, it asks for them.
static void test_unsigned(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	struct json_limits limits = json_limits_default;
	struct error err = {0};
	static const char text[] =
		"[9223372036854775807, 9223372036854775808, 18446744073709551615]";
	limits.unsigned_integers = true;
	const struct json *root = json_parse(&a, text, sizeof(text) - 1, "x", &limits, &err);
	assert_non_null(root);
	assert_int_equal(member_at(root, 0)->type, JSON_INTEGER);
	assert_int_equal(member_at(root, 1)->type, JSON_UNSIGNED);
	assert_true(member_at(root, 1)->unsigned_integer == 1ULL << 63);
	assert_true(member_at(root, 2)->unsigned_integer == UINT64_MAX);
	assert_string_equal(json_type_name(JSON_UNSIGNED), "integer");
	assert_null(json_parse(&a, "18446744073709551616", 20, "x", &limits, &err));
	assert_string_equal(err.text, "x:1:1: the integer 18446744073709551616 does not fit into "
				      "64 bits; if it is a name, quote it");
	assert_null(json_parse(&a, text, sizeof(text) - 1, "x", NULL, &err));
}

static void test_values(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	static const char text[] =
		"[null, true, false, 0, -0, 9223372036854775807, -9223372036854775808,\n"
		" 1.5, -2E-3, \"\", \"a\\n\\u00e9\\ud83d\\ude00\\\\u0000\", [], {}]\n";
	const struct json *root = json_parse(&a, text, sizeof(text) - 1, "x", NULL, &err);
	assert_non_null(root);
	assert_int_equal(root->type, JSON_ARRAY);
	assert_int_equal(root->count, 13);
	assert_int_equal(member_at(root, 0)->type, JSON_NULL);
	assert_true(member_at(root, 1)->boolean);
	assert_false(member_at(root, 2)->boolean);
	assert_int_equal(member_at(root, 2)->type, JSON_BOOL);
	assert_int_equal(member_at(root, 3)->integer, 0);
	assert_int_equal(member_at(root, 4)->type, JSON_INTEGER);
	assert_true(member_at(root, 5)->integer == INT64_MAX);
	assert_true(member_at(root, 6)->integer == INT64_MIN);
	assert_int_equal(member_at(root, 7)->type, JSON_NUMBER);
	assert_true(member_at(root, 7)->number == 1.5);
	assert_true(member_at(root, 8)->number == -0.002);
	assert_string_equal(member_at(root, 9)->string, "");
	assert_int_equal(member_at(root, 9)->length, 0);
	assert_string_equal(member_at(root, 10)->string, "a\n\xc3\xa9\xf0\x9f\x98\x80\\u0000");
	assert_int_equal(member_at(root, 10)->length, 14);
	assert_int_equal(member_at(root, 11)->type, JSON_ARRAY);
	assert_int_equal(member_at(root, 11)->count, 0);
	assert_int_equal(member_at(root, 12)->type, JSON_OBJECT);
	json_array_each (item, root)
		assert_null(item->key);
}

static void test_scalar_root(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	const struct json *root = json_parse(&a, "\n 12", 4, "x", NULL, &err);
	assert_non_null(root);
	assert_int_equal(root->integer, 12);
	assert_int_equal(root->line, 2);
	assert_int_equal(root->column, 2);
}

static void assert_place(const struct json *value, uint32_t line, uint32_t column)
{
	assert_non_null(value);
	assert_int_equal(value->line, line);
	assert_int_equal(value->column, column);
}

static void test_places(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	static const char text[] = "{\"\xc3\xa9\": [1 , \"x\\u00e9\" ,2.5],\r\n"
				   "\t\"b\" : {\"c\":\n true}, \"d\":null}";
	const struct json *root = json_parse(&a, text, sizeof(text) - 1, "x", NULL, &err);
	assert_place(root, 1, 1);
	const struct json *array = json_get(root, "\xc3\xa9");
	assert_place(array, 1, 7); // characters, not bytes
	assert_place(member_at(array, 0), 1, 8);
	assert_place(member_at(array, 1), 1, 12);
	assert_place(member_at(array, 2), 1, 23);
	assert_int_equal(root->members[1].line, 2);
	assert_int_equal(root->members[1].column, 2);
	assert_place(json_get(root, "b"), 2, 8);
	assert_place(json_get(json_get(root, "b"), "c"), 3, 2);
	assert_place(json_get(root, "d"), 3, 13);
}

static void test_get(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	static const char text[] = "{\"a\": \"x\", \"b\": 1, \"\": \"y\"}";
	const struct json *root = json_parse(&a, text, sizeof(text) - 1, "x", NULL, &err);
	assert_non_null(root);
	assert_string_equal(json_get_string(root, "a"), "x");
	assert_string_equal(json_get_string(root, ""), "y");
	assert_null(json_get_string(root, "b"));
	assert_null(json_get(root, "c"));
	assert_null(json_get(json_get(root, "b"), "c"));
	assert_null(json_get(NULL, "a"));
	assert_null(json_get_string(NULL, "a"));
	assert_string_equal(json_type_name(JSON_BOOL), "boolean");
	assert_string_equal(json_type_name(JSON_OBJECT), "object");
}

static void test_limits(void **state)
{
	(void)state;
	static const struct json_limits limits = {.bytes = 20, .depth = 2, .nodes = 4};
	static const struct {
		const char *input, *expected; // NULL: accepted
	} cases[] = {
		{"[[1,2]]", NULL},
		{"[1,2,3]", NULL},
		{"[{\"a\":1}]          ", NULL},
		{"[[[]]]", "x:1:3: nested more than 2 levels deep"},
		{"[{\"a\":\n{}}]", "x:2:1: nested more than 2 levels deep"},
		{"[1,2,3,4]", "x:1:8: more than 4 values"},
		{"[[],[],[],[]]", "x:1:11: more than 4 values"},
		{"[{\"a\":1}]           ", NULL},
		{"[{\"a\":1}]            ", "x: 21 bytes, at most 20 are read"},
	};
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct error err = {0};
		const char *input = cases[i].input;
		const struct json *root = json_parse(&a, input, strlen(input), "x", &limits, &err);
		if (!cases[i].expected != !!root)
			fail_msg("%s: %s", input, root ? "accepted" : err.text);
		if (root)
			continue;
		assert_int_equal(err.kind, ERROR_LIMIT);
		assert_string_equal(err.text, cases[i].expected);
	}
}

// Quadratic work here would take minutes.
static void test_large(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer text = {0};
	struct error err = {0};
	buffer_puts(&text, "{");
	for (size_t i = 0; i < 100000; i++)
		buffer_printf(&text, "%s\"%zu\": [%zu]", i ? ",\n" : "", i * 7919 % 100003, i);
	buffer_puts(&text, "}");
	assert_null(json_parse(&a, text.data, text.size, "x", NULL, &err));
	assert_int_equal(err.kind, ERROR_LIMIT);
	struct json_limits limits = json_limits_default;
	limits.nodes = 200001;
	const struct json *root = json_parse(&a, text.data, text.size, "x", &limits, &err);
	assert_non_null(root);
	assert_int_equal(root->count, 100000);
	assert_place(member_at(root, 99999), 100000, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_raw_nul),
		cmocka_unit_test(test_unsigned),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_scalar_root),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_get),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_large),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
