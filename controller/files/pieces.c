// SPDX-License-Identifier: Apache-2.0
#include "controller/files/pieces.h"

#include "base/text.h"
#include "base/time.h"

enum { LOOK_ROWS = 130 };

struct work {
	struct arena *arena;
	const char *blob;
	uint64_t offset;
	size_t max;
	struct database_rows rows;
	struct pieces_end *end;
	const struct pieces_change *change;
};

static const char conflict[] = "another controller has changed this file meanwhile";

// ---- looking

static uint64_t number(const struct database_rows *r, size_t row, size_t column)
{
	return (uint64_t)database_get_integer(r, row, column, 0);
}

static int look(struct database_tx *tx, void *data, struct error *err)
{
	struct work *w = data;
	return database_run(tx, w->arena,
		       "SELECT start, size, CASE WHEN object IS NULL THEN 1 ELSE 0 END FROM piece "
		       "WHERE blob = ?1 ORDER BY start DESC LIMIT ?2",
		       database_values(database_text(w->blob), database_integer(LOOK_ROWS)),
		       &w->rows, err) < 0
		       ? -1
		       : 0;
}

int pieces_look(struct database *db, const char *blob, struct pieces_end *end, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct work w = {.arena = &a, .blob = blob};
	const struct database_rows *r = &w.rows;
	if (database_read(db, look, &w, err) < 0)
		return -1;
	*end = (struct pieces_end){0};
	if (!r->count)
		return 0;
	end->size = end->tail_start = number(r, 0, 0) + number(r, 0, 1);
	size_t i = 0;
	for (; i < r->count && number(r, i, 2); i++) {
		end->tail_start = number(r, i, 0);
		end->tail_rows++;
	}
	for (; i < r->count && !number(r, i, 2) && number(r, i, 1) < PIECE_SMALL; i++) {
		end->small_objects++;
		end->small_bytes += number(r, i, 1);
	}
	return 0;
}

static void take_rows(struct work *w, struct piece **pieces, size_t *count)
{
	struct piece *list = arena_array(w->arena, struct piece, w->rows.count + 1);
	for (size_t i = 0; i < w->rows.count; i++) {
		list[i] = (struct piece){.start = number(&w->rows, i, 0),
			.size = number(&w->rows, i, 1),
			.object = database_get_text(&w->rows, i, 2)};
		const struct database_value *v =
			w->rows.columns > 3 ? database_at(&w->rows, i, 3) : NULL;
		if (v && v->type == DATABASE_BYTES) {
			list[i].data = v->text;
			list[i].data_size = v->size;
		}
	}
	*pieces = list;
	*count = w->rows.count;
}

static int find(struct database_tx *tx, void *data, struct error *err)
{
	struct work *w = data;
	return database_run(tx, w->arena,
		       "SELECT start, size, object, data FROM piece WHERE blob = ?1 AND start >= "
		       "(SELECT MAX(start) FROM piece WHERE blob = ?1 AND start <= ?2) "
		       "ORDER BY start LIMIT ?3",
		       database_values(database_text(w->blob), database_integer((int64_t)w->offset),
			       database_integer((int64_t)w->max)),
		       &w->rows, err) < 0
		       ? -1
		       : 0;
}

int pieces_find(struct database *db, struct arena *a, const char *blob, uint64_t offset, size_t max,
	struct piece **pieces, size_t *count, struct error *err)
{
	struct work w = {.arena = a, .blob = blob, .offset = offset, .max = max};
	*count = 0;
	if (offset > INT64_MAX)
		return 0;
	if (database_read(db, find, &w, err) < 0)
		return -1;
	take_rows(&w, pieces, count);
	const struct piece *first = *pieces;
	if (*count && offset - first->start >= first->size)
		*count = 0;
	return 0;
}

static int find_small(struct database_tx *tx, void *data, struct error *err)
{
	struct work *w = data;
	return database_run(tx, w->arena,
		       "SELECT start, size, object FROM piece WHERE blob = ?1 AND start >= ?2 AND "
		       "size < ?3 ORDER BY start LIMIT ?4",
		       database_values(database_text(w->blob), database_integer((int64_t)w->offset),
			       database_integer(PIECE_SMALL), database_integer((int64_t)w->max)),
		       &w->rows, err) < 0
		       ? -1
		       : 0;
}

int pieces_find_small(struct database *db, struct arena *a, const char *blob, uint64_t start,
	size_t max, struct piece **pieces, size_t *count, struct error *err)
{
	struct work w = {.arena = a, .blob = blob, .offset = start, .max = max};
	if (database_read(db, find_small, &w, err) < 0)
		return -1;
	take_rows(&w, pieces, count);
	return 0;
}

// ---- changing

// Followers that read one, as they found it a moment ago, still get a minute.
enum { GRACE_MS = 60 * 1000 };

static int doom_objects(struct database_tx *tx, struct arena *a, const char *blob, uint64_t from,
	uint64_t to, struct error *err)
{
	return database_do(tx, a,
		"INSERT INTO stray_object (name, due, doomed) SELECT object, ?4, 1 FROM piece "
		"WHERE blob = ?1 AND start >= ?2 AND start < ?3 AND object IS NOT NULL",
		database_values(database_text(blob), database_integer((int64_t)from),
			database_integer((int64_t)to), database_integer(wall_ms() + GRACE_MS)),
		err);
}

static int64_t delete_rows(struct database_tx *tx, struct arena *a, const char *blob, uint64_t from,
	uint64_t to, struct error *err)
{
	return database_run(tx, a,
		"DELETE FROM piece WHERE blob = ?1 AND start >= ?2 AND start < ?3",
		database_values(database_text(blob), database_integer((int64_t)from),
			database_integer((int64_t)to)),
		NULL, err);
}

static int is_size(
	struct database_tx *tx, struct arena *a, const struct pieces_change *c, struct error *err)
{
	struct database_rows rows;
	if (database_run(tx, a,
		    "SELECT start, size FROM piece WHERE blob = ?1 ORDER BY start DESC LIMIT 1",
		    database_values(database_text(c->blob)), &rows, err) < 0)
		return -1;
	uint64_t size = rows.count ? number(&rows, 0, 0) + number(&rows, 0, 1) : 0;
	return size == c->size ? 0 : error_set(err, ERROR_UNAVAILABLE, "%s", conflict);
}

static int insert(
	struct database_tx *tx, struct arena *a, const struct pieces_change *c, struct error *err)
{
	const struct piece *p = &c->piece;
	int64_t n = database_run(tx, a,
		"INSERT INTO piece (blob, start, size, object, data) VALUES (?1, ?2, ?3, ?4, ?5) "
		"ON CONFLICT (blob, start) DO NOTHING",
		database_values(database_text(c->blob), database_integer((int64_t)p->start),
			database_integer((int64_t)p->size), database_text(p->object),
			database_bytes(p->data, p->data_size)),
		NULL, err);
	if (n < 0)
		return -1;
	// The object is somebody's now; unless it was given up meanwhile.
	if (n == 1 && p->object)
		n = database_run(tx, a, "DELETE FROM stray_object WHERE name = ?1 AND doomed = 0",
			database_values(database_text(p->object)), NULL, err);
	if (n < 0)
		return -1;
	return n == 1 ? 0 : error_set(err, ERROR_UNAVAILABLE, "%s", conflict);
}

static int put(struct database_tx *tx, void *data, struct error *err)
{
	const struct pieces_change *c = data;
	cleanup_arena struct arena a = {0};
	if (c->appends && is_size(tx, &a, c, err) < 0)
		return -1;
	if (c->replaced) {
		if (doom_objects(tx, &a, c->blob, c->from, c->to, err) < 0)
			return -1;
		int64_t n = delete_rows(tx, &a, c->blob, c->from, c->to, err);
		if (n < 0)
			return -1;
		if ((uint64_t)n != c->replaced)
			return error_set(err, ERROR_UNAVAILABLE, "%s", conflict);
	}
	return insert(tx, &a, c, err);
}

int pieces_put(struct database *db, const struct pieces_change *change, struct error *err)
{
	struct pieces_change c = *change;
	return database_write(db, put, &c, err);
}

static int remove_all(struct database_tx *tx, void *data, struct error *err)
{
	const struct work *w = data;
	return doom_objects(tx, w->arena, w->blob, 0, INT64_MAX, err) < 0 ||
			       delete_rows(tx, w->arena, w->blob, 0, INT64_MAX, err) < 0
		       ? -1
		       : 0;
}

int pieces_remove(struct database *db, const char *blob, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct work w = {.arena = &a, .blob = blob};
	return database_write(db, remove_all, &w, err);
}
