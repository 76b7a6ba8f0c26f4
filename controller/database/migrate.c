// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"
#include "controller/database/database_internal.h"

static int find_version(struct database_tx *tx, void *data, struct error *err)
{
	int64_t *version = data;
	cleanup_arena struct arena a = {0};
	struct database_rows rows;
	if (database_do(tx, &a,
		    "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)",
		    database_no_values, err) < 0 ||
		database_run(tx, &a, "SELECT version FROM schema_version", database_no_values,
			&rows, err) < 0)
		return -1;
	*version = rows.count ? database_get_integer(&rows, 0, 0, 0) : 0;
	if (rows.count)
		return 0;
	return database_do(
		tx, &a, "INSERT INTO schema_version VALUES (0)", database_no_values, err);
}

static const char *put_in(struct arena *a, const char *sql, const char *mark, const char *text)
{
	const char *at = strstr(sql, mark);
	return at ? arena_printf(a, "%.*s%s%s", (int)(at - sql), sql, text, at + strlen(mark))
		  : sql;
}

static int apply(struct database_tx *tx, void *data, struct error *err)
{
	const struct migration *m = data;
	cleanup_arena struct arena a = {0};
	for (const char *const *sql = m->statements; *sql; sql++) {
		const char *text = put_in(&a, *sql, "@BYTES@", tx->db->ops->bytes_type);
		text = put_in(&a, text, "@BYTEWISE@", tx->db->ops->bytewise);
		if (database_do(tx, &a, text, database_no_values, err) < 0)
			return error_context(err, "version %d of the tables", m->version);
	}
	return database_do(tx, &a, "UPDATE schema_version SET version = ?1",
		database_values(database_integer(m->version)), err);
}

int database_migrate(
	struct database *db, const struct migration *list, size_t count, struct error *err)
{
	int64_t version;
	if (database_write(db, find_version, &version, err) < 0)
		return -1;
	if (version > list[count - 1].version)
		return error_set(err, ERROR_INVALID,
			"its tables are of version %lld, this program knows up to %d: a later "
			"release made them",
			(long long)version, list[count - 1].version);
	for (size_t i = 0; i < count; i++) {
		struct migration m = list[i];
		if (m.version > version && database_write(db, apply, &m, err) < 0)
			return -1;
	}
	return 0;
}
