// SPDX-License-Identifier: Apache-2.0
//
// Values, rows and prepared statements: what the implementations have in common.
#include "base/text.h"
#include "controller/database/database_internal.h"

#include <assert.h>

struct database_value database_text(const char *s)
{
	return s ? (struct database_value){.type = DATABASE_TEXT, .text = s, .size = strlen(s)}
		 : (struct database_value){.type = DATABASE_NULL};
}

struct database_value database_bytes(const void *data, size_t size)
{
	return (struct database_value){.type = DATABASE_BYTES, .text = data, .size = size};
}

const struct database_value *database_at(const struct database_rows *r, size_t row, size_t column)
{
	assert(row < r->count && column < r->columns);
	return &r->values[row * r->columns + column];
}

const char *database_get_text(const struct database_rows *r, size_t row, size_t column)
{
	const struct database_value *v = database_at(r, row, column);
	return v->type == DATABASE_TEXT ? v->text : NULL;
}

int64_t database_get_integer(
	const struct database_rows *r, size_t row, size_t column, int64_t otherwise)
{
	const struct database_value *v = database_at(r, row, column);
	return v->type == DATABASE_INTEGER ? v->integer : otherwise;
}

double database_get_real(const struct database_rows *r, size_t row, size_t column)
{
	const struct database_value *v = database_at(r, row, column);
	if (v->type == DATABASE_REAL)
		return v->real;
	return v->type == DATABASE_INTEGER ? (double)v->integer : 0;
}

int rows_count(struct row_collector *c, struct error *err)
{
	if (++c->count > DATABASE_ROWS_MAX)
		return error_set(
			err, ERROR_LIMIT, "a query gives more than %d rows", DATABASE_ROWS_MAX);
	return 0;
}

void rows_finish(struct row_collector *c, struct arena *a, struct database_rows *rows)
{
	*rows = (struct database_rows){.count = c->count, .columns = c->columns};
	rows->values = arena_array(a, struct database_value, c->count * c->columns);
	if (c->values.size)
		memcpy(rows->values, c->values.data, c->values.size);
}

// FNV-1a.
static uint32_t hash_of(const char *s)
{
	uint32_t hash = 2166136261U;
	for (; *s; s++)
		hash = (hash ^ (unsigned char)*s) * 16777619U;
	return hash ^ hash >> 16;
}

struct statement *statements_find(struct statements *s, const char *key)
{
	enum { NEIGHBOURS = 8 };
	uint32_t hash = hash_of(key);
	struct statement *oldest = &s->slots[hash % STATEMENTS];
	for (uint32_t i = 0; i < NEIGHBOURS; i++) {
		struct statement *t = &s->slots[(hash + i) % STATEMENTS];
		if (t->key && streq(t->key, key)) {
			oldest = t;
			break;
		}
		if (t->used < oldest->used)
			oldest = t;
	}
	oldest->used = ++s->uses;
	return oldest;
}
