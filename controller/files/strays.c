// SPDX-License-Identifier: Apache-2.0
#include "controller/files/strays.h"

#include "base/time.h"
#include "controller/files/blobs.h"

#include <stdio.h>

enum { WRITING_MS = 6 * 3600 * 1000 };

struct stray_work {
	struct arena *arena;
	const struct stray *strays;
	size_t count, max;
	struct database_rows rows;
};

static int add_stray(struct database_tx *tx, void *data, struct error *err)
{
	const struct stray *s = data;
	cleanup_arena struct arena a = {0};
	return database_do(tx, &a,
		"INSERT INTO stray_object (name, due, doomed, upload) VALUES (?1, ?2, 0, ?3)",
		database_values(database_text(s->object), database_integer(wall_ms() + WRITING_MS),
			database_text(s->upload)),
		err);
}

int stray_add(struct database *db, const char *object, const char *upload, struct error *err)
{
	struct stray s = {.object = object, .upload = upload};
	return database_write(db, add_stray, &s, err);
}

static int doom_stray(struct database_tx *tx, void *data, struct error *err)
{
	cleanup_arena struct arena a = {0};
	return database_do(tx, &a, "UPDATE stray_object SET doomed = 1, due = ?2 WHERE name = ?1",
		database_values(database_text(data), database_integer(wall_ms())), err);
}

int stray_doom(struct database *db, const char *object, struct error *err)
{
	char name[BLOB_ID_SIZE];
	snprintf(name, sizeof(name), "%s", object);
	return database_write(db, doom_stray, name, err);
}

// First they are doomed, so that who wrote one finds out and does not take it up; what is doomed
// and due then is given out.
static int find_due(struct database_tx *tx, void *data, struct error *err)
{
	struct stray_work *w = data;
	int64_t now = wall_ms();
	return database_do(tx, w->arena,
		       "UPDATE stray_object SET doomed = 1 WHERE doomed = 0 AND due < ?1",
		       database_values(database_integer(now)), err) < 0 ||
			       database_run(tx, w->arena,
				       "SELECT name, upload FROM stray_object WHERE doomed = 1 AND "
				       "due < ?1 ORDER BY due LIMIT ?2",
				       database_values(database_integer(now),
					       database_integer((int64_t)w->max)),
				       &w->rows, err) < 0
		       ? -1
		       : 0;
}

static int is_any_due(struct database_tx *tx, void *data, struct error *err)
{
	struct stray_work *w = data;
	return database_run(tx, w->arena, "SELECT name FROM stray_object WHERE due < ?1 LIMIT 1",
		       database_values(database_integer(wall_ms())), &w->rows, err) < 0
		       ? -1
		       : 0;
}

int stray_due(struct database *db, struct arena *a, size_t max, struct stray **strays,
	size_t *count, struct error *err)
{
	struct stray_work w = {.arena = a, .max = max};
	*count = 0;
	// Mostly there are none, and then nothing is written.
	if (database_read(db, is_any_due, &w, err) < 0)
		return -1;
	if (!w.rows.count)
		return 0;
	if (database_write(db, find_due, &w, err) < 0)
		return -1;
	*strays = arena_array(a, struct stray, w.rows.count + 1);
	*count = w.rows.count;
	for (size_t i = 0; i < w.rows.count; i++)
		(*strays)[i] = (struct stray){.object = database_get_text(&w.rows, i, 0),
			.upload = database_get_text(&w.rows, i, 1)};
	return 0;
}

static int forget(struct database_tx *tx, void *data, struct error *err)
{
	const struct stray_work *w = data;
	cleanup_arena struct arena a = {0};
	for (size_t i = 0; i < w->count; i++)
		if (database_do(tx, &a, "DELETE FROM stray_object WHERE name = ?1 AND doomed = 1",
			    database_values(database_text(w->strays[i].object)), err) < 0)
			return -1;
	return 0;
}

int stray_forget(struct database *db, const struct stray *strays, size_t count, struct error *err)
{
	struct stray_work w = {.strays = strays, .count = count};
	return count ? database_write(db, forget, &w, err) : 0;
}
