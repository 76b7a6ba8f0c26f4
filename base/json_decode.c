// SPDX-License-Identifier: Apache-2.0
#include "base/json_decode.h"

#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>

int json_decode_fail(struct json_decoder *d, const struct json *value, struct error *err,
	enum error_kind kind, const char *format, ...)
{
	char text[sizeof(err->text)], place[32] = "";
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (d->positions && value && value->line)
		snprintf(place, sizeof(place), "%u:%u:", value->line, value->column);
	const char *document = d->document ? d->document : "";
	bool before = *document || *place;
	return error_set(err, kind, "%s%s%s%s%s%s%s", document, *document ? ":" : "", place,
		before ? " " : "", d->path_length ? d->path : "", d->path_length ? ": " : "", text);
}

static size_t enter(struct json_decoder *d, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

// A path that is too long is cut; the position still tells the place.
static size_t enter(struct json_decoder *d, const char *format, ...)
{
	size_t entered = d->path_length, room = sizeof(d->path) - entered;
	va_list args;
	va_start(args, format);
	int n = vsnprintf(d->path + entered, room, format, args);
	va_end(args);
	if (n > 0)
		d->path_length += (size_t)n < room ? (size_t)n : room - 1;
	return entered;
}

size_t json_decode_enter_key(struct json_decoder *d, const char *key)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
	if (!*key || key[strspn(key, plain)])
		return enter(d, "[\"%s\"]", key);
	return enter(d, "%s%s", d->path_length ? "." : "", key);
}

size_t json_decode_enter_index(struct json_decoder *d, size_t index)
{
	return enter(d, "[%zu]", index);
}

void json_decode_leave(struct json_decoder *d, size_t entered)
{
	d->path_length = entered;
	d->path[entered] = '\0';
}

enum { NAME_MOST = 63, DISTANCE_MOST = 2 };

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

// Edits (insert, delete, replace, swap neighbours) from a to b; more than DISTANCE_MOST if a name
// is long.
static size_t distance(const char *a, const char *b)
{
	size_t rows[3][NAME_MOST + 1], n = strlen(a), m = strlen(b);
	if (n > NAME_MOST || m > NAME_MOST)
		return DISTANCE_MOST + 1;
	size_t *before = rows[0], *last = rows[1], *row = rows[2];
	for (size_t j = 0; j <= m; j++)
		last[j] = j;
	for (size_t i = 1; i <= n; i++) {
		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			row[j] = least(last[j - 1] + (a[i - 1] != b[j - 1]),
				least(last[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = least(row[j], before[j - 2] + 1);
		}
		size_t *spare = before;
		before = last;
		last = row;
		row = spare;
	}
	return last[m];
}

static const char *nearest_name(const struct json_field *fields, const char *key)
{
	// Two edits make anything of a short word.
	size_t best = strlen(key) < 5 ? 2 : DISTANCE_MOST + 1;
	const char *name = NULL;
	for (const struct json_field *f = fields; f->name; f++) {
		size_t edits = distance(key, f->name);
		if (edits < best) {
			best = edits;
			name = f->name;
		}
	}
	return name;
}

static int fail_unknown(struct json_decoder *d, const struct json_member *member,
	const struct json_field *fields, struct error *err)
{
	struct json place = {.line = member->line, .column = member->column};
	const char *near = nearest_name(fields, member->key);
	if (near)
		return json_decode_fail(d, &place, err, ERROR_INVALID,
			"unknown key \"%s\", did you mean \"%s\"?", member->key, near);
	return json_decode_fail(d, &place, err, ERROR_INVALID, "unknown key \"%s\"", member->key);
}

static const struct json_field *find_field(const struct json_field *fields, const char *key)
{
	for (const struct json_field *f = fields; f->name; f++)
		if (streq(f->name, key))
			return f;
	return NULL;
}

static int check_names(struct json_decoder *d, const struct json *value,
	const struct json_field *fields, struct error *err)
{
	json_object_each (member, value)
		if (!find_field(fields, member->key))
			return fail_unknown(d, member, fields, err);
	return 0;
}

int json_decode_object(struct json_decoder *d, const struct json *value,
	const struct json_field *fields, bool strict, void *target, struct error *err)
{
	if (value->type != JSON_OBJECT)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be an object");
	if (strict && check_names(d, value, fields, err) < 0)
		return -1;
	for (const struct json_field *f = fields; f->name; f++) {
		const struct json *member = json_get(value, f->name);
		if (member && member->type == JSON_NULL && (f->flags & JSON_NULLABLE))
			member = NULL;
		if (!member && (f->flags & JSON_REQUIRED))
			return json_decode_fail(
				d, value, err, ERROR_INVALID, "key \"%s\" is missing", f->name);
		if (!member)
			continue;
		size_t entered = json_decode_enter_key(d, f->name);
		int status = f->decode(d, member, (char *)target + f->offset, err);
		json_decode_leave(d, entered);
		if (status < 0)
			return -1;
	}
	return 0;
}

int json_decode_array(struct json_decoder *d, const struct json *value, json_decode_fn *decode,
	size_t item_size, size_t limit, void **items, size_t *count, struct error *err)
{
	if (value->type != JSON_ARRAY)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be an array");
	if (value->count > limit)
		return json_decode_fail(d, value, err, ERROR_LIMIT,
			"%zu elements, at most %zu are allowed", value->count, limit);
	char *decoded = arena_alloc_array(d->arena, value->count, item_size);
	for (size_t i = 0; i < value->count; i++) {
		size_t entered = json_decode_enter_index(d, i);
		int status = decode(d, &value->members[i].value, decoded + i * item_size, err);
		json_decode_leave(d, entered);
		if (status < 0)
			return -1;
	}
	*items = decoded;
	*count = value->count;
	return 0;
}

int json_decode_string(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type != JSON_STRING) {
		// In a document that people write, 3.10 and true are usually meant as text.
		bool scalar = value->type == JSON_INTEGER || value->type == JSON_NUMBER ||
			      value->type == JSON_BOOL;
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be a string%s",
			d->positions && scalar ? "; put it in quotes" : "");
	}
	*(const char **)target = value->string;
	return 0;
}

int json_decode_int64(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type == JSON_UNSIGNED)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "does not fit into 64 bits with a sign");
	if (value->type != JSON_INTEGER)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be an integer");
	*(int64_t *)target = value->integer;
	return 0;
}

int json_decode_uint64(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type == JSON_UNSIGNED) {
		*(uint64_t *)target = value->unsigned_integer;
		return 0;
	}
	if (value->type != JSON_INTEGER || value->integer < 0)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be a non-negative integer");
	*(uint64_t *)target = (uint64_t)value->integer;
	return 0;
}

int json_decode_bool(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type != JSON_BOOL)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be true or false");
	*(bool *)target = value->boolean;
	return 0;
}

int json_decode_double(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type == JSON_INTEGER)
		*(double *)target = (double)value->integer;
	else if (value->type == JSON_UNSIGNED)
		*(double *)target = (double)value->unsigned_integer;
	else if (value->type == JSON_NUMBER)
		*(double *)target = value->number;
	else
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be a number");
	return 0;
}

int json_decode_strings(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_strings *strings = target;
	if (value->type != JSON_ARRAY)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be an array of strings");
	const char **items = arena_array(d->arena, const char *, value->count + 1);
	for (size_t i = 0; i < value->count; i++) {
		size_t entered = json_decode_enter_index(d, i);
		int status = json_decode_string(d, &value->members[i].value, &items[i], err);
		json_decode_leave(d, entered);
		if (status < 0)
			return -1;
	}
	*strings = (struct json_strings){.items = items, .count = value->count};
	return 0;
}

int json_decode_pairs(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_pairs *pairs = target;
	if (value->type != JSON_OBJECT)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be an object of strings");
	struct json_pair *items = arena_array(d->arena, struct json_pair, value->count);
	for (size_t i = 0; i < value->count; i++) {
		const struct json_member *member = &value->members[i];
		size_t entered = json_decode_enter_key(d, member->key);
		int status = json_decode_string(d, &member->value, &items[i].value, err);
		json_decode_leave(d, entered);
		if (status < 0)
			return -1;
		items[i].key = member->key;
	}
	*pairs = (struct json_pairs){.items = items, .count = value->count};
	return 0;
}

int json_decode_any(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	(void)d;
	(void)err;
	*(const struct json **)target = value;
	return 0;
}
