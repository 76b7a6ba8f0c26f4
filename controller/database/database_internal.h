// SPDX-License-Identifier: Apache-2.0
//
// What a database has to offer; database.c does the rest: trying again, values, migrations, who is
// told.
#pragma once

#include "base/buffer.h"
#include "controller/database/database.h"
#include "controller/database/schema.h"

#include <stdatomic.h>

enum tx_state {
	TX_GOOD,
	TX_FAILED, // a statement failed; nothing of it may be committed
	TX_AGAIN,  // the database asks for it to be done again
	TX_LOST,   // the connection broke before the commit was sent
};

struct database_tx {
	struct database *db;
	bool writes;
	bool changed;	  // something that a commit could lose
	int64_t deadline; // now_ms()
	enum tx_state state;
	struct error error;   // of the first statement that failed
	struct buffer topics; // to be told once committed, each with its NUL
	void *connection;     // the implementation's
};

struct database_ops {
	// In CREATE TABLE: the type of bytes; what makes a text compare by its bytes, with a space
	// before it.
	const char *bytes_type, *bytewise;
	const char *skip_locked;
	bool shared;
	// Borrow a connection and begin. -1 with `state` as it is to be handled; then nothing is
	// borrowed.
	int (*begin)(struct database_tx *tx, struct error *err);
	// As database_run(); fails by tx_fail().
	int64_t (*run)(struct database_tx *tx, struct arena *a, const char *sql,
		const struct database_value *values, size_t count, struct database_rows *rows,
		struct error *err);
	// Commit, or -1 with `state`. The connection is given back in any case.
	int (*commit)(struct database_tx *tx, struct error *err);
	void (*rollback)(struct database_tx *tx); // gives the connection back
	void (*notify)(
		struct database *db, const char *topic); // others, without a transaction; NULL
	int (*claim)(struct database *db, struct error *err);
	void (*close)(struct database *db);
};

typedef void database_told(void *data, const char *topic);
struct database {
	const struct database_ops *ops;
	_Atomic(database_told *) told;
	void *told_data;
};

struct database *database_sqlite_open(const char *path, struct error *err);
struct database *database_postgres_open(const char *url, struct error *err);

// Bring the tables to the last of these versions. Others do not do the same meanwhile.
int database_migrate(
	struct database *db, const struct migration *list, size_t count, struct error *err);

// A statement failed: the transaction has, as `state` says. Returns -1 with `err` set.
int tx_fail(
	struct database_tx *tx, enum tx_state state, const struct error *why, struct error *err);
// Call who is to be told, here.
void database_tell(struct database *db, const char *topic);

// Rows as they come, for one query.
enum { DATABASE_ROWS_MAX = 100000 };
struct row_collector {
	struct buffer values;
	size_t count, columns;
};
int rows_count(struct row_collector *c, struct error *err); // one more has come
void rows_finish(struct row_collector *c, struct arena *a, struct database_rows *rows);

// Prepared statements of a connection, by their text (and what else tells them apart). The least
// recently used of a few neighbours makes room.
enum { STATEMENTS = 256 };
struct statement {
	char *key; // NULL: free
	void *handle;
	uint64_t used;
};
struct statements {
	struct statement slots[STATEMENTS];
	uint64_t uses;
};
// The one of this key, or one to make room in.
struct statement *statements_find(struct statements *s, const char *key);
