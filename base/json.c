// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include "base/json_tree.h"
#include "base/text.h"
#include "base/utf8.h"
#include "base/yajl_memory.h"

#include <yajl/yajl_parse.h>

struct json_parser {
	struct json_tree tree;
	const char *data;
	size_t size;
	yajl_handle yajl;
	bool finishing; // all bytes were given: yajl's offsets no longer count from the start
	size_t offset;	// how far tokens were read
	struct json_place place; // of the offset
};

static void json_parser_release(struct json_parser *p)
{
	if (p->yajl)
		yajl_free(p->yajl);
	json_tree_release(&p->tree);
}

static void advance(struct json_parser *p, size_t offset)
{
	for (; p->offset < offset; p->offset++) {
		unsigned char c = (unsigned char)p->data[p->offset];
		if (c == '\n')
			p->place = (struct json_place){p->place.line + 1, 1};
		else if ((c & 0xc0) != 0x80)
			p->place.column++;
	}
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_blank(const char *data, size_t size)
{
	size_t i = 0;
	while (i < size && is_space(data[i]))
		i++;
	return i == size;
}

static bool is_filler(char c)
{
	return is_space(c) || c == ',' || c == ':';
}

// yajl tells where a token ends: it starts behind the one before, after space and separators.
static size_t token_start(const struct json_parser *p, size_t end)
{
	size_t start = p->offset;
	while (start + 1 < end && is_filler(p->data[start]))
		start++;
	return start;
}

static struct json_place next_token(struct json_parser *p)
{
	size_t end = p->finishing ? p->size : yajl_get_bytes_consumed(p->yajl);
	advance(p, token_start(p, end));
	struct json_place place = p->place;
	advance(p, end);
	return place;
}

static int on_null(void *context)
{
	struct json_parser *p = context;
	return json_tree_null(&p->tree, next_token(p)) == 0;
}

static int on_boolean(void *context, int value)
{
	struct json_parser *p = context;
	return json_tree_boolean(&p->tree, value, next_token(p)) == 0;
}

static int on_number(void *context, const char *text, size_t length)
{
	struct json_parser *p = context;
	return json_tree_number(&p->tree, text, length, next_token(p)) == 0;
}

static int on_string(void *context, const unsigned char *s, size_t length)
{
	struct json_parser *p = context;
	return json_tree_string(&p->tree, (const char *)s, length, next_token(p)) == 0;
}

static int on_key(void *context, const unsigned char *s, size_t length)
{
	struct json_parser *p = context;
	json_tree_key(&p->tree, (const char *)s, length, next_token(p));
	return 1;
}

static int on_start_object(void *context)
{
	struct json_parser *p = context;
	return json_tree_open(&p->tree, JSON_OBJECT, next_token(p)) == 0;
}

static int on_start_array(void *context)
{
	struct json_parser *p = context;
	return json_tree_open(&p->tree, JSON_ARRAY, next_token(p)) == 0;
}

static int on_end(void *context)
{
	struct json_parser *p = context;
	next_token(p);
	return json_tree_close(&p->tree) == 0;
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_boolean,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_start_object,
	.yajl_map_key = on_key,
	.yajl_end_map = on_end,
	.yajl_start_array = on_start_array,
	.yajl_end_array = on_end,
};

// The four digits of \uXXXX, -1 if they are none (yajl reports those).
static int escape_digits(const char *s, const char *end)
{
	int value = 0;
	if (end - s < 4)
		return -1;
	for (size_t i = 0; i < 4; i++) {
		int lower = s[i] | 0x20;
		if (s[i] >= '0' && s[i] <= '9')
			value = value * 16 + s[i] - '0';
		else if (lower >= 'a' && lower <= 'f')
			value = value * 16 + lower - 'a' + 10;
		else
			return -1;
	}
	return value;
}

// yajl turns half a surrogate pair into "?" (and drops the character behind it) or into bytes that
// are not UTF-8, and passes NUL on. `s` is behind the backslash; `*length` is how much the escape
// takes.
static const char *check_escape(const char *s, const char *end, size_t *length)
{
	*length = 1;
	if (s == end || *s != 'u')
		return NULL;
	int high = escape_digits(s + 1, end);
	if (high < 0)
		return NULL;
	*length = 5;
	if (high == 0)
		return "a NUL character in a string";
	if (high < 0xd800 || high > 0xdfff)
		return NULL;
	int low = end - s >= 7 && s[5] == '\\' && s[6] == 'u' ? escape_digits(s + 7, end) : -1;
	if (high > 0xdbff || low < 0xdc00 || low > 0xdfff)
		return "half a surrogate pair in a string";
	*length = 11;
	return NULL;
}

// yajl skips vertical tabs and form feeds; RFC 8259 does not.
static int check_space(struct json_parser *p, char c)
{
	const char *found = p->size ? memchr(p->data, c, p->size) : NULL;
	if (!found)
		return 0;
	return json_tree_fail(&p->tree, ERROR_INVALID,
		json_place_of(p->data, (size_t)(found - p->data)),
		"control characters are not allowed");
}

// What yajl lets pass or mends in silence. A backslash means an escape in a string, or an error
// anyway.
static int check_text(struct json_parser *p)
{
	const char *end = p->data + p->size, *at = p->data;
	size_t valid = utf8_valid(p->data, p->size);
	if (valid < p->size)
		return json_tree_fail(&p->tree, ERROR_INVALID, json_place_of(p->data, valid),
			"invalid UTF-8; save the file as UTF-8");
	if (p->size >= 3 && memcmp(p->data, "\xef\xbb\xbf", 3) == 0)
		return json_tree_fail(&p->tree, ERROR_INVALID, p->place,
			"a byte order mark; save the file as UTF-8 without one");
	if (is_blank(p->data, p->size))
		return json_tree_fail(&p->tree, ERROR_INVALID, p->place, "the document is empty");
	if (check_space(p, '\v') < 0 || check_space(p, '\f') < 0)
		return -1;
	while (at < end && (at = memchr(at, '\\', (size_t)(end - at)))) {
		size_t length;
		const char *problem = check_escape(at + 1, end, &length);
		if (problem)
			return json_tree_fail(&p->tree, ERROR_INVALID,
				json_place_of(p->data, (size_t)(at - p->data)), "%s", problem);
		if ((size_t)(end - at) <= length)
			break;
		at += 1 + length;
	}
	return 0;
}

static const char *remedy(const struct json_parser *p, size_t at)
{
	size_t before = at;
	while (before > 0 && is_space(p->data[before - 1]))
		before--;
	switch (p->data[at]) {
	case '/':
	case '#':
		return "; JSON has no comments, remove it";
	case '\'':
		return "; strings stand in double quotes";
	case ']':
	case '}':
		return before > 0 && p->data[before - 1] == ',' ? "; remove the comma before it"
								: "";
	case 'N':
	case 'T':
	case 'F':
	case 'I':
		return "; JSON knows true, false, null and finite numbers only";
	default:
		return "";
	}
}

static int fail_syntax(struct json_parser *p)
{
	unsigned char *problem = yajl_get_error(p->yajl, 0, NULL, 0);
	size_t length = strcspn((char *)problem, "\n");
	if (length && problem[length - 1] == '.')
		length--;
	size_t at = p->finishing ? p->size : yajl_get_bytes_consumed(p->yajl);
	size_t start = token_start(p, at);
	while (start < p->size && is_space(p->data[start]))
		start++;
	advance(p, start);
	json_tree_fail(&p->tree, ERROR_INVALID, p->place, "%.*s%s", (int)length, problem,
		start < p->size ? remedy(p, start) : "");
	yajl_free_error(p->yajl, problem);
	return -1;
}

// A token cut short behind the document, such as a quote, is no trailing garbage for yajl.
static int check_rest(struct json_parser *p)
{
	size_t start = p->offset;
	while (start < p->size && is_space(p->data[start]))
		start++;
	if (start == p->size)
		return 0;
	advance(p, start);
	return json_tree_fail(&p->tree, ERROR_INVALID, p->place, "parse error: trailing garbage%s",
		remedy(p, start));
}

static int parse(struct json_parser *p)
{
	if (check_text(p) < 0)
		return -1;
	p->yajl = yajl_alloc(&callbacks, yajl_memory, p);
	yajl_status status = yajl_parse(p->yajl, (const unsigned char *)p->data, p->size);
	if (status == yajl_status_ok) {
		p->finishing = true;
		status = yajl_complete_parse(p->yajl);
	}
	if (status == yajl_status_client_canceled)
		return -1;
	return status == yajl_status_ok ? check_rest(p) : fail_syntax(p);
}

struct json *json_parse(struct arena *a, const char *data, size_t size, const char *name,
	const struct json_limits *limits, struct error *err)
{
	__attribute__((cleanup(json_parser_release))) struct json_parser p = {
		.data = data,
		.size = size,
		.place = {1, 1},
	};
	json_tree_init(&p.tree, a, name, limits, err);
	if (size > p.tree.limits->bytes) {
		error_set(err, ERROR_LIMIT, "%s: %zu bytes, at most %zu are read", name, size,
			p.tree.limits->bytes);
		return NULL;
	}
	return parse(&p) < 0 ? NULL : json_tree_root(&p.tree);
}

const struct json *json_get(const struct json *object, const char *key)
{
	if (!object || object->type != JSON_OBJECT)
		return NULL;
	json_object_each (member, object)
		if (streq(member->key, key))
			return &member->value;
	return NULL;
}

const char *json_get_string(const struct json *object, const char *key)
{
	const struct json *value = json_get(object, key);
	return value && value->type == JSON_STRING ? value->string : NULL;
}

int64_t json_get_integer(const struct json *object, const char *key, int64_t otherwise)
{
	const struct json *value = json_get(object, key);
	return value && value->type == JSON_INTEGER ? value->integer : otherwise;
}

bool json_get_bool(const struct json *object, const char *key, bool otherwise)
{
	const struct json *value = json_get(object, key);
	return value && value->type == JSON_BOOL ? value->boolean : otherwise;
}

const char *json_type_name(enum json_type type)
{
	static const char *const names[] = {
		[JSON_NULL] = "null",
		[JSON_BOOL] = "boolean",
		[JSON_INTEGER] = "integer",
		[JSON_UNSIGNED] = "integer",
		[JSON_NUMBER] = "number",
		[JSON_STRING] = "string",
		[JSON_ARRAY] = "array",
		[JSON_OBJECT] = "object",
	};
	return (unsigned)type < array_size(names) ? names[type] : "unknown";
}
