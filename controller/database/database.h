// SPDX-License-Identifier: Apache-2.0
//
// The controller's tables, behind one small interface: SQLite in a file (database_sqlite.c) or
// PostgreSQL (database_postgres.c). All SQL is written once, in what both understand: parameters
// are ?1, ?2 … (PostgreSQL gets $1, $2), integers BIGINT, texts TEXT, booleans 0 and 1, times
// milliseconds since 1970, ON CONFLICT and RETURNING; no sequences, no dialect. Safe for many
// threads: a transaction borrows one of a few connections and blocks until one is free.
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct database;
struct database_tx;

// "postgresql://…" (libpq's form), else the path of a file, made with mode 0600 when it is not
// there. Brings the tables to this program's version (schema.h), one migration a transaction;
// ERROR_INVALID when they are of a later one. With PostgreSQL waits up to 30 s for a server that is
// starting.
struct database *database_open(const char *where, struct error *err);
void database_close(struct database *db); // no transaction may be under way; NULL is fine

// Run `fn` in one transaction and commit it when it returns 0; acknowledged means durable (SQLite:
// WAL with synchronous=FULL). A write sees no change of others from its first statement on (SQLite:
// BEGIN IMMEDIATE, PostgreSQL: SERIALIZABLE). `fn` is called again, from the start, when the
// database asks for it (conflict, deadlock) or its connection was lost before the commit was sent;
// so its effects are only in the transaction and in `data`, which it fills anew each time. A
// connection lost while committing: is found out by reading the mark that each write leaves, so
// that it is neither repeated nor lost. ERROR_UNAVAILABLE after 20 s of trying. Otherwise -1 with
// what `fn` said; nothing has changed then.
typedef int database_fn(struct database_tx *tx, void *data, struct error *err);
int database_write(struct database *db, database_fn *fn, void *data, struct error *err);
// One snapshot, nothing is written.
int database_read(struct database *db, database_fn *fn, void *data, struct error *err);

enum database_type {
	DATABASE_NULL,
	DATABASE_INTEGER,
	DATABASE_REAL,
	DATABASE_TEXT,
	DATABASE_BYTES
};
struct database_value {
	enum database_type type;
	union {
		int64_t integer;
		double real;
		struct {
			const char *text; // NUL behind it, not counted
			size_t size;
		};
	};
};
static inline struct database_value database_integer(int64_t v)
{
	return (struct database_value){.type = DATABASE_INTEGER, .integer = v};
}
static inline struct database_value database_real(double v)
{
	return (struct database_value){.type = DATABASE_REAL, .real = v};
}
struct database_value database_text(const char *s); // NULL gives a null
struct database_value database_bytes(const void *data, size_t size);

// Rows of a result; values live in the arena given.
struct database_rows {
	size_t count, columns;
	struct database_value *values; // row after row
};
const struct database_value *database_at(const struct database_rows *r, size_t row, size_t column);
// Of a value: its text or NULL; its integer or `otherwise`; its number or 0.
const char *database_get_text(const struct database_rows *r, size_t row, size_t column);
int64_t database_get_integer(
	const struct database_rows *r, size_t row, size_t column, int64_t otherwise);
double database_get_real(const struct database_rows *r, size_t row, size_t column);

// One statement with its values. `rows` NULL: its rows are not wanted. Returns how many rows it
// changed (or, of a query, gave), or -1. Queries state their own LIMIT; over 100,000 rows are
// ERROR_LIMIT.
#define database_values(...)                                           \
	((const struct database_value[]){__VA_ARGS__}),                \
		sizeof((const struct database_value[]){__VA_ARGS__}) / \
			sizeof(struct database_value)
#define database_no_values NULL, 0
int64_t database_run(struct database_tx *tx, struct arena *a, const char *sql,
	const struct database_value *values, size_t count, struct database_rows *rows,
	struct error *err);
// One whose rows and number do not matter: 0 or -1.
static inline int database_do(struct database_tx *tx, struct arena *a, const char *sql,
	const struct database_value *values, size_t count, struct error *err)
{
	return database_run(tx, a, sql, values, count, NULL, err) < 0 ? -1 : 0;
}
// " FOR UPDATE SKIP LOCKED" where that exists and is needed, else "". For the end of a SELECT.
const char *database_skip_locked(const struct database_tx *tx);

// Tell everybody who waits for `topic` ("node/ID", "run/ID", "queue"; at most 200 bytes), here and
// in other controllers on this database, once the transaction is committed.
void database_notify(struct database_tx *tx, const char *topic);
// Who is to be told (the hub). Set once, before the first transaction. Called from any thread. With
// PostgreSQL a thread LISTENs; when its connection was lost, `fn` is called with NULL afterwards:
// anything may have changed.
void database_on_notify(struct database *db, void (*fn)(void *data, const char *topic), void *data);
// Tell without a transaction (a log has grown).
void database_notify_now(struct database *db, const char *topic);
// Does it answer? For /healthz.
int database_ping(struct database *db, struct error *err);
// Be this database's only controller for as long as it is open: ERROR_UNAVAILABLE when another one
// is. Commands that only look something up or add a token do without. With PostgreSQL there may be
// many: 0.
int database_claim(struct database *db, struct error *err);
bool database_is_shared(const struct database *db); // may there be other controllers?
