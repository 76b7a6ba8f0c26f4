// SPDX-License-Identifier: Apache-2.0
#include "base/json_tree.h"

#include "base/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum { NUMBER_MOST = 128 }; // characters; a double needs 25

struct json_tree_container {
	enum json_type type;
	size_t first; // of its values on the stack
	struct json_place place;
	const char *key; // its own
	struct json_place key_place;
};

const struct json_limits json_limits_default = {.bytes = 4 << 20, .depth = 32, .nodes = 200000};

void json_tree_init(struct json_tree *t, struct arena *a, const char *name,
	const struct json_limits *limits, struct error *err)
{
	*t = (struct json_tree){
		.arena = a,
		.name = name,
		.limits = limits ? limits : &json_limits_default,
		.err = err,
	};
}

void json_tree_release(struct json_tree *t)
{
	free(t->values);
	free(t->open);
	*t = (struct json_tree){0};
}

int json_tree_fail(
	struct json_tree *t, enum error_kind kind, struct json_place at, const char *format, ...)
{
	char text[sizeof(t->err->text)];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return error_set(t->err, kind, "%s:%u:%u: %s", t->name, at.line, at.column, text);
}

bool json_tree_wants_key(const struct json_tree *t)
{
	return t->depth && t->open[t->depth - 1].type == JSON_OBJECT && !t->key;
}

struct json *json_tree_root(struct json_tree *t)
{
	struct json *root = arena_new(t->arena, struct json);
	*root = t->values[0].value;
	return root;
}

static void push(struct json_tree *t, const struct json_member *member)
{
	if (t->count == t->capacity) {
		t->capacity = t->capacity ? t->capacity * 2 : 64;
		t->values = xreallocarray(t->values, t->capacity, sizeof(*t->values));
	}
	t->values[t->count++] = *member;
}

static int count_node(struct json_tree *t, struct json_place at)
{
	if (++t->nodes > t->limits->nodes)
		return json_tree_fail(t, ERROR_LIMIT, at, "more than %zu values", t->limits->nodes);
	return 0;
}

static int add(struct json_tree *t, struct json value, struct json_place at)
{
	if (count_node(t, at) < 0)
		return -1;
	value.line = at.line;
	value.column = at.column;
	push(t, &(struct json_member){
			.key = t->key,
			.line = t->key_place.line,
			.column = t->key_place.column,
			.value = value,
		});
	t->key = NULL;
	t->key_place = (struct json_place){0};
	return 0;
}

int json_tree_open(struct json_tree *t, enum json_type type, struct json_place at)
{
	if (count_node(t, at) < 0)
		return -1;
	if (t->depth == t->limits->depth)
		return json_tree_fail(
			t, ERROR_LIMIT, at, "nested more than %zu levels deep", t->limits->depth);
	if (t->depth == t->open_capacity) {
		t->open_capacity = t->open_capacity ? t->open_capacity * 2 : 16;
		t->open = xreallocarray(t->open, t->open_capacity, sizeof(*t->open));
	}
	t->open[t->depth++] = (struct json_tree_container){
		.type = type,
		.first = t->count,
		.place = at,
		.key = t->key,
		.key_place = t->key_place,
	};
	t->key = NULL;
	t->key_place = (struct json_place){0};
	return 0;
}

// By key, then by document order (the values lie in one array).
static int compare_keys(const void *a, const void *b)
{
	const struct json_member *x = *(const struct json_member *const *)a;
	const struct json_member *y = *(const struct json_member *const *)b;
	int order = strcmp(x->key, y->key);
	return order ? order : (x > y) - (x < y);
}

// Sorting keeps an object of 100,000 keys from taking 10^10 comparisons.
static int check_duplicates(struct json_tree *t, const struct json_member *members, size_t count)
{
	if (count < 2)
		return 0;
	cleanup_free const struct json_member **sorted =
		xreallocarray(NULL, count, sizeof(*sorted));
	for (size_t i = 0; i < count; i++)
		sorted[i] = &members[i];
	qsort(sorted, count, sizeof(*sorted), compare_keys);
	const struct json_member *first = NULL, *again = NULL;
	for (size_t i = 1; i < count; i++) {
		if (!streq(sorted[i - 1]->key, sorted[i]->key))
			continue;
		if (again && again < sorted[i])
			continue;
		first = sorted[i - 1];
		again = sorted[i];
	}
	if (!again)
		return 0;
	return json_tree_fail(t, ERROR_INVALID, (struct json_place){again->line, again->column},
		"duplicate key \"%s\", first at %u:%u", again->key, first->line, first->column);
}

int json_tree_close(struct json_tree *t)
{
	struct json_tree_container *c = &t->open[--t->depth];
	size_t count = t->count - c->first;
	struct json_member *values = count ? t->values + c->first : NULL;
	if (c->type == JSON_OBJECT && check_duplicates(t, values, count) < 0)
		return -1;
	struct json_member whole = {
		.key = c->key,
		.line = c->key_place.line,
		.column = c->key_place.column,
		.value = {.type = c->type, .line = c->place.line, .column = c->place.column},
	};
	whole.value.count = count;
	whole.value.members = arena_array(t->arena, struct json_member, count);
	if (count)
		memcpy(whole.value.members, values, count * sizeof(*values));
	t->count = c->first;
	push(t, &whole);
	return 0;
}

int json_tree_key(struct json_tree *t, const char *key, size_t length, struct json_place at)
{
	t->key = arena_strndup(t->arena, key, length);
	t->key_place = at;
	return 0;
}

int json_tree_null(struct json_tree *t, struct json_place at)
{
	return add(t, (struct json){.type = JSON_NULL}, at);
}

int json_tree_boolean(struct json_tree *t, bool value, struct json_place at)
{
	return add(t, (struct json){.type = JSON_BOOL, .boolean = value}, at);
}

int json_tree_string(struct json_tree *t, const char *s, size_t length, struct json_place at)
{
	struct json value = {.type = JSON_STRING};
	value.string = arena_strndup(t->arena, s, length);
	value.length = length;
	return add(t, value, at);
}

int json_tree_number(struct json_tree *t, const char *text, size_t length, struct json_place at)
{
	char digits[NUMBER_MOST + 1];
	if (length > NUMBER_MOST)
		return json_tree_fail(
			t, ERROR_INVALID, at, "a number of more than %d characters", NUMBER_MOST);
	memcpy(digits, text, length);
	digits[length] = '\0';
	struct json value = {.type = JSON_INTEGER};
	if (!strpbrk(digits, ".eE")) {
		uint64_t large;
		if (t->limits->unsigned_integers && parse_u64(digits, &large) && large > INT64_MAX)
			return add(t,
				(struct json){.type = JSON_UNSIGNED, .unsigned_integer = large},
				at);
		if (!parse_i64(digits, &value.integer))
			return json_tree_fail(t, ERROR_INVALID, at,
				"the integer %s does not fit into 64 bits; if it is a name, quote "
				"it",
				digits);
		return add(t, value, at);
	}
	value.type = JSON_NUMBER;
	value.number = strtod(digits, NULL);
	if (!isfinite(value.number))
		return json_tree_fail(t, ERROR_INVALID, at,
			"the number %s is too large; if it is a name, quote it", digits);
	return add(t, value, at);
}

struct json_place json_place_of(const char *data, size_t offset)
{
	struct json_place place = {1, 1};
	for (size_t i = 0; i < offset; i++) {
		if (data[i] == '\n')
			place = (struct json_place){place.line + 1, 1};
		else if (((unsigned char)data[i] & 0xc0) != 0x80)
			place.column++;
	}
	return place;
}
