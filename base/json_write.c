// SPDX-License-Identifier: Apache-2.0
#include "base/json_write.h"

#include "base/json_decode.h"
#include "base/text.h"
#include "base/utf8.h"
#include "base/yajl_memory.h"

#include <math.h>
#include <stdio.h>
#include <yajl/yajl_gen.h>

// What may come next in a container. yajl itself writes `{"a":}` or closes an array with '}'.
enum json_writer_state { WANT_VALUE, WANT_KEY, WANT_MEMBER_VALUE };

struct json_writer_container {
	enum json_writer_state state;
	bool filled;
	size_t start; // in the text, behind its bracket
};

struct json_writer {
	yajl_gen gen;
	bool pretty;
	struct buffer text;
	struct error failure; // the first one
	bool complete;
	size_t depth;
	struct json_writer_container open[YAJL_MAX_DEPTH];
};

static void append(void *context, const char *text, size_t length)
{
	struct json_writer *w = context;
	buffer_append(&w->text, text, length);
}

struct json_writer *json_writer_new(bool pretty)
{
	struct json_writer *w = xcalloc(1, sizeof(*w));
	w->pretty = pretty;
	w->gen = yajl_gen_alloc(yajl_memory);
	yajl_gen_config(w->gen, yajl_gen_print_callback, append, w);
	yajl_gen_config(w->gen, yajl_gen_beautify, (int)pretty);
	yajl_gen_config(w->gen, yajl_gen_indent_string, "  ");
	return w;
}

void json_writer_free(struct json_writer *w)
{
	if (!w)
		return;
	yajl_gen_free(w->gen);
	buffer_release(&w->text);
	free(w);
}

static bool fail(struct json_writer *w, const char *problem)
{
	if (!w->failure.kind)
		error_set(&w->failure, ERROR_INVALID, "write JSON: %s", problem);
	return false;
}

static struct json_writer_container *innermost(struct json_writer *w)
{
	return w->depth ? &w->open[w->depth - 1] : NULL;
}

// May a value be written now?
static bool begin_value(struct json_writer *w)
{
	struct json_writer_container *c = innermost(w);
	if (w->failure.kind)
		return false;
	if (w->complete)
		return fail(w, "a second value at the top");
	if (c && c->state == WANT_KEY)
		return fail(w, "a value without a key");
	return true;
}

static void end_value(struct json_writer *w, yajl_gen_status status)
{
	struct json_writer_container *c = innermost(w);
	if (status != yajl_gen_status_ok && status != yajl_gen_generation_complete)
		fail(w, "refused by yajl");
	if (!c)
		w->complete = true;
	else
		c->filled = true;
	if (c && c->state == WANT_MEMBER_VALUE)
		c->state = WANT_KEY;
}

static void open_container(
	struct json_writer *w, enum json_writer_state state, yajl_gen_status (*open)(yajl_gen))
{
	if (!begin_value(w))
		return;
	// yajl counts its last level as one too many.
	if (w->depth + 1 >= YAJL_MAX_DEPTH) {
		fail(w, "nested too deeply");
		return;
	}
	if (open(w->gen) != yajl_gen_status_ok)
		fail(w, "refused by yajl");
	w->open[w->depth++] = (struct json_writer_container){
		.state = state,
		.start = w->text.size - w->pretty,
	};
}

static void close_container(struct json_writer *w, enum json_writer_state state, char bracket,
	yajl_gen_status (*close)(yajl_gen))
{
	const struct json_writer_container *c = innermost(w);
	if (w->failure.kind)
		return;
	if (!c || c->state != state) {
		fail(w, "an object or array closed out of place");
		return;
	}
	w->depth--;
	yajl_gen_status status = close(w->gen);
	// yajl spreads an empty container over three lines.
	if (w->pretty && !c->filled) {
		w->text.size = c->start;
		buffer_putc(&w->text, bracket);
		if (!w->depth)
			buffer_putc(&w->text, '\n');
	}
	end_value(w, status);
}

void json_write_open_object(struct json_writer *w)
{
	open_container(w, WANT_KEY, yajl_gen_map_open);
}

void json_write_open_array(struct json_writer *w)
{
	open_container(w, WANT_VALUE, yajl_gen_array_open);
}

void json_write_close_object(struct json_writer *w)
{
	close_container(w, WANT_KEY, '}', yajl_gen_map_close);
}

void json_write_close_array(struct json_writer *w)
{
	close_container(w, WANT_VALUE, ']', yajl_gen_array_close);
}

static bool is_text(struct json_writer *w, const char *s, size_t length)
{
	if (utf8_valid(s, length) < length)
		return fail(w, "a string that is not UTF-8");
	return true;
}

void json_write_key(struct json_writer *w, const char *key)
{
	struct json_writer_container *c = innermost(w);
	size_t length = strlen(key);
	if (w->failure.kind || !is_text(w, key, length))
		return;
	if (!c || c->state != WANT_KEY) {
		fail(w, "a key out of place");
		return;
	}
	yajl_gen_string(w->gen, (const unsigned char *)key, length);
	c->state = WANT_MEMBER_VALUE;
}

void json_write_string(struct json_writer *w, const char *s)
{
	if (!s) {
		json_write_null(w);
		return;
	}
	size_t length = strlen(s);
	if (begin_value(w) && is_text(w, s, length))
		end_value(w, yajl_gen_string(w->gen, (const unsigned char *)s, length));
}

void json_write_int(struct json_writer *w, int64_t v)
{
	if (begin_value(w))
		end_value(w, yajl_gen_integer(w->gen, v));
}

void json_write_unsigned(struct json_writer *w, uint64_t v)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	if (begin_value(w))
		end_value(w, yajl_gen_number(w->gen, text, (size_t)n));
}

void json_write_bool(struct json_writer *w, bool v)
{
	if (begin_value(w))
		end_value(w, yajl_gen_bool(w->gen, v));
}

void json_write_null(struct json_writer *w)
{
	if (begin_value(w))
		end_value(w, yajl_gen_null(w->gen));
}

// The shortest digits that read back as the same number (yajl's own are always twenty).
void json_write_double(struct json_writer *w, double v)
{
	char text[40];
	if (!begin_value(w))
		return;
	if (!isfinite(v)) {
		fail(w, "a number that is not finite");
		return;
	}
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, v);
		if (strtod(text, NULL) == v)
			break;
	}
	// Without a point it would be read as an integer.
	size_t length = strlen(text);
	if (!strpbrk(text, ".e")) {
		memcpy(text + length, ".0", sizeof(".0"));
		length += 2;
	}
	end_value(w, yajl_gen_number(w->gen, text, length));
}

static void write_members(struct json_writer *w, const struct json *tree)
{
	json_array_each (item, tree) {
		if (w->failure.kind)
			return; // also what ends the recursion in a tree deeper than can be written
		if (tree->type == JSON_OBJECT)
			json_write_key(w, item->key);
		json_write_tree(w, &item->value);
	}
}

void json_write_tree(struct json_writer *w, const struct json *tree)
{
	switch (tree->type) {
	case JSON_NULL:
		json_write_null(w);
		break;
	case JSON_BOOL:
		json_write_bool(w, tree->boolean);
		break;
	case JSON_INTEGER:
		json_write_int(w, tree->integer);
		break;
	case JSON_UNSIGNED:
		json_write_unsigned(w, tree->unsigned_integer);
		break;
	case JSON_NUMBER:
		json_write_double(w, tree->number);
		break;
	case JSON_STRING:
		json_write_string(w, tree->string);
		break;
	case JSON_ARRAY:
		json_write_open_array(w);
		write_members(w, tree);
		json_write_close_array(w);
		break;
	case JSON_OBJECT:
		json_write_open_object(w);
		write_members(w, tree);
		json_write_close_object(w);
		break;
	}
}

void json_write_member(struct json_writer *w, const char *key, const char *s)
{
	json_write_key(w, key);
	json_write_string(w, s);
}

void json_write_member_int(struct json_writer *w, const char *key, int64_t v)
{
	json_write_key(w, key);
	json_write_int(w, v);
}

void json_write_member_unsigned(struct json_writer *w, const char *key, uint64_t v)
{
	json_write_key(w, key);
	json_write_unsigned(w, v);
}

void json_write_member_bool(struct json_writer *w, const char *key, bool v)
{
	json_write_key(w, key);
	json_write_bool(w, v);
}

void json_write_member_strings(
	struct json_writer *w, const char *key, const struct json_strings *list)
{
	json_write_key(w, key);
	json_write_open_array(w);
	for (size_t i = 0; i < list->count; i++)
		json_write_string(w, list->items[i]);
	json_write_close_array(w);
}

void json_write_member_pairs(struct json_writer *w, const char *key, const struct json_pairs *pairs)
{
	json_write_key(w, key);
	json_write_open_object(w);
	for (size_t i = 0; i < pairs->count; i++)
		json_write_member(w, pairs->items[i].key, pairs->items[i].value);
	json_write_close_object(w);
}

int json_writer_finish(struct json_writer *w, struct buffer *out, struct error *err)
{
	if (!w->failure.kind && !w->complete)
		fail(w, w->depth ? "an object or array is left open" : "nothing was written");
	if (w->failure.kind) {
		*err = w->failure;
		return -1;
	}
	buffer_append(out, w->text.data, w->text.size);
	return 0;
}
