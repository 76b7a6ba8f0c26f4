// SPDX-License-Identifier: Apache-2.0
//
// SQLite in WAL mode: one connection writes, a few read, each on a snapshot of its own, and neither
// waits for the other.
#include "base/file.h"
#include "base/text.h"
#include "controller/database/database_internal.h"
#include "controller/database/pool.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <unistd.h>

enum { READERS = 4 };

struct connection {
	sqlite3 *handle;
	struct statements statements;
};

struct sqlite {
	struct database base;
	char *path;
	int claim; // the descriptor that holds the lock; -1
	struct connection connections[1 + READERS];
	struct pool writer, readers;
};

static struct sqlite *sqlite_of(struct database *db)
{
	return (struct sqlite *)db;
}

static struct pool *pool_of(struct database_tx *tx)
{
	struct sqlite *s = sqlite_of(tx->db);
	return tx->writes ? &s->writer : &s->readers;
}

// What SQLite says of the last call, and whether to try again.
static enum tx_state explain(struct connection *c, struct error *err)
{
	const char *text = sqlite3_errmsg(c->handle);
	switch (sqlite3_errcode(c->handle)) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		error_set(err, ERROR_UNAVAILABLE, "the database: %s", text);
		return TX_AGAIN;
	case SQLITE_FULL:
		error_set(err, ERROR_LIMIT, "the database: %s", text);
		return TX_FAILED;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		error_set(err, ERROR_INTEGRITY, "the database: %s", text);
		return TX_FAILED;
	default:
		error_set(err, ERROR_SYSTEM, "the database: %s", text);
		return TX_FAILED;
	}
}

static int fail(struct database_tx *tx, struct error *err)
{
	struct error why;
	enum tx_state state = explain(tx->connection, &why);
	return tx_fail(tx, state, &why, err);
}

static sqlite3_stmt *prepared(struct connection *c, const char *sql)
{
	struct statement *s = statements_find(&c->statements, sql);
	if (s->key && streq(s->key, sql))
		return s->handle;
	sqlite3_stmt *statement;
	if (sqlite3_prepare_v3(c->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) !=
		SQLITE_OK)
		return NULL;
	sqlite3_finalize(s->handle);
	free(s->key);
	s->key = xstrdup(sql);
	s->handle = statement;
	return statement;
}

// The values stay where they are until the statement has ended.
static int bind(sqlite3_stmt *s, int i, const struct database_value *v)
{
	switch (v->type) {
	case DATABASE_INTEGER:
		return sqlite3_bind_int64(s, i, v->integer);
	case DATABASE_REAL:
		return sqlite3_bind_double(s, i, v->real);
	case DATABASE_TEXT:
		return sqlite3_bind_text64(s, i, v->text, v->size, SQLITE_STATIC, SQLITE_UTF8);
	case DATABASE_BYTES:
		return sqlite3_bind_blob64(s, i, v->size ? v->text : "", v->size, SQLITE_STATIC);
	default:
		return sqlite3_bind_null(s, i);
	}
}

static struct database_value column(sqlite3_stmt *s, int i, struct arena *a)
{
	const char *data;
	switch (sqlite3_column_type(s, i)) {
	case SQLITE_INTEGER:
		return database_integer(sqlite3_column_int64(s, i));
	case SQLITE_FLOAT:
		return database_real(sqlite3_column_double(s, i));
	case SQLITE_TEXT:
		data = (const char *)sqlite3_column_text(s, i);
		break;
	case SQLITE_BLOB:
		data = sqlite3_column_blob(s, i);
		break;
	default:
		return (struct database_value){.type = DATABASE_NULL};
	}
	size_t size = (size_t)sqlite3_column_bytes(s, i);
	return (struct database_value){
		.type = sqlite3_column_type(s, i) == SQLITE_TEXT ? DATABASE_TEXT : DATABASE_BYTES,
		.text = arena_strndup(a, size ? data : "", size),
		.size = size,
	};
}

// Returns what the last step did.
static int step_all(
	sqlite3_stmt *s, struct row_collector *c, struct arena *a, bool wanted, struct error *err)
{
	int rc;
	c->columns = (size_t)sqlite3_column_count(s);
	while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
		if (rows_count(c, err) < 0)
			return SQLITE_ROW;
		for (int i = 0; wanted && i < (int)c->columns; i++) {
			struct database_value v = column(s, i, a);
			buffer_append(&c->values, &v, sizeof(v));
		}
	}
	return rc;
}

static int64_t sqlite_run(struct database_tx *tx, struct arena *a, const char *sql,
	const struct database_value *values, size_t count, struct database_rows *rows,
	struct error *err)
{
	struct connection *c = tx->connection;
	struct row_collector collector = {0};
	struct error why = {0};
	sqlite3_stmt *s = prepared(c, sql);
	if (!s)
		return fail(tx, err);
	assert((size_t)sqlite3_bind_parameter_count(s) == count);
	for (size_t i = 0; i < count; i++)
		if (bind(s, (int)i + 1, &values[i]) != SQLITE_OK)
			return fail(tx, err);
	int64_t before = sqlite3_total_changes64(c->handle);
	int rc = step_all(s, &collector, a, rows != NULL, &why);
	if (rc == SQLITE_ROW)
		tx_fail(tx, TX_FAILED, &why, err);
	else if (rc != SQLITE_DONE)
		fail(tx, err);
	else if (rows)
		rows_finish(&collector, a, rows);
	buffer_release(&collector.values);
	sqlite3_reset(s);
	sqlite3_clear_bindings(s);
	if (rc != SQLITE_DONE)
		return -1;
	return sqlite3_stmt_readonly(s) ? (int64_t)collector.count
					: sqlite3_total_changes64(c->handle) - before;
}

static int execute(struct connection *c, const char *sql)
{
	sqlite3_stmt *s = prepared(c, sql);
	int rc = s ? sqlite3_step(s) : SQLITE_ERROR;
	if (s && rc != SQLITE_DONE)
		rc = sqlite3_reset(s);
	else if (s)
		sqlite3_reset(s);
	return rc == SQLITE_DONE ? 0 : -1;
}

static int sqlite_begin(struct database_tx *tx, struct error *err)
{
	tx->connection = pool_take(pool_of(tx), tx->deadline, err);
	if (!tx->connection)
		return -1;
	if (execute(tx->connection, tx->writes ? "BEGIN IMMEDIATE" : "BEGIN") == 0)
		return 0;
	fail(tx, err);
	pool_give(pool_of(tx), tx->connection);
	return -1;
}

static void sqlite_rollback(struct database_tx *tx)
{
	struct connection *c = tx->connection;
	// Some errors (a full disk) roll back by themselves.
	if (!sqlite3_get_autocommit(c->handle))
		execute(c, "ROLLBACK");
	pool_give(pool_of(tx), c);
}

static int sqlite_commit(struct database_tx *tx, struct error *err)
{
	if (execute(tx->connection, "COMMIT") == 0) {
		pool_give(pool_of(tx), tx->connection);
		return 0;
	}
	fail(tx, err);
	sqlite_rollback(tx);
	return -1;
}

// A lock of our own beside the file: SQLite's are lost when anybody here closes another descriptor
// of it.
static int sqlite_claim(struct database *db, struct error *err)
{
	struct sqlite *s = sqlite_of(db);
	cleanup_free char *path = xasprintf("%s.lock", s->path);
	cleanup_fd int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_set_errno(err, errno, "%s", path);
	int rc = file_lock(fd, LOCK_EX | LOCK_NB, path, err);
	if (rc > 0)
		return error_set(err, ERROR_UNAVAILABLE,
			"%s: another stoker-controller serves this database", s->path);
	if (rc == 0)
		s->claim = steal_fd(&fd);
	return rc;
}

static void connection_close(struct connection *c)
{
	for (size_t i = 0; i < STATEMENTS; i++) {
		sqlite3_finalize(c->statements.slots[i].handle);
		free(c->statements.slots[i].key);
	}
	sqlite3_close(c->handle);
}

static void sqlite_close(struct database *db)
{
	struct sqlite *s = sqlite_of(db);
	// The writer last: it is the one that may move what is in the log to the file.
	for (size_t i = array_size(s->connections); i-- > 0;)
		connection_close(&s->connections[i]);
	if (s->claim >= 0)
		close(s->claim);
	pool_release(&s->writer);
	pool_release(&s->readers);
	free(s->path);
	free(s);
}

static int connection_open(struct connection *c, const char *path, bool writes, struct error *err)
{
	// `busy_timeout`: for other processes, as `stoker-controller token`. The log is cut back
	// after a burst.
	const char *settings = writes ? "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL;"
					"PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;"
					"PRAGMA journal_size_limit = 67108864"
				      : "PRAGMA busy_timeout = 10000; PRAGMA temp_store = MEMORY;"
					"PRAGMA query_only = ON";
	if (sqlite3_open_v2(path, &c->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) ==
			SQLITE_OK &&
		sqlite3_exec(c->handle, settings, NULL, NULL, NULL) == SQLITE_OK)
		return 0;
	explain(c, err);
	return -1;
}

// Made by us, for its mode; SQLite gives its other files the same.
static int make_file(const char *path, struct error *err)
{
	cleanup_fd int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno != EEXIST)
		return error_set_errno(err, errno, "make it");
	return 0;
}

static int open_all(struct sqlite *s, struct error *err)
{
	if (make_file(s->path, err) < 0)
		return -1;
	for (size_t i = 0; i < array_size(s->connections); i++) {
		if (connection_open(&s->connections[i], s->path, i == 0, err) < 0)
			return -1;
		pool_give(i == 0 ? &s->writer : &s->readers, &s->connections[i]);
	}
	return database_migrate(&s->base, migrations, migration_count, err);
}

struct database *database_sqlite_open(const char *path, struct error *err)
{
	static const struct database_ops ops = {
		.bytes_type = "BLOB",
		.bytewise = "",
		.skip_locked = "",
		.begin = sqlite_begin,
		.run = sqlite_run,
		.commit = sqlite_commit,
		.rollback = sqlite_rollback,
		.claim = sqlite_claim,
		.close = sqlite_close,
	};
	struct sqlite *s = xcalloc(1, sizeof(*s));
	*s = (struct sqlite){.base.ops = &ops, .path = xstrdup(path), .claim = -1};
	pool_init(&s->writer);
	pool_init(&s->readers);
	if (open_all(s, err) == 0)
		return &s->base;
	error_context(err, "database %s", path);
	sqlite_close(&s->base);
	return NULL;
}
