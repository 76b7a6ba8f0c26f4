// SPDX-License-Identifier: Apache-2.0
//
// PostgreSQL in parts: one connection (database_postgres_connection.c), who listens to other
// controllers (database_postgres_listen.c). database_postgres.c puts them together.
#pragma once

#include "controller/database/database_internal.h"

#include <libpq-fe.h>

struct pg_connection {
	PGconn *handle; // NULL: there is none at the moment
	const char *url;
	struct statements statements;
};

// One attempt; what there was is closed before. ERROR_UNAVAILABLE, or ERROR_DENIED when it is a
// matter of the password. No error ever shows the URL.
int pg_connect(struct pg_connection *c, struct error *err);
void pg_disconnect(struct pg_connection *c);
bool pg_is_alive(const struct pg_connection *c);
// Statements without values; the result of the last one, or of the first that failed. Or one
// statement with values, which stays prepared. The caller clears the result; pg_is_good() says what
// became of it.
PGresult *pg_execute(struct pg_connection *c, const char *sql);
PGresult *pg_run(struct pg_connection *c, const char *sql, const struct database_value *values,
	size_t count);
bool pg_is_good(const PGresult *r);
// Why it failed, and whether to try again.
enum tx_state pg_explain(struct pg_connection *c, const PGresult *r, struct error *err);
// Its rows, in the arena.
int pg_rows(const PGresult *r, struct arena *a, struct database_rows *rows, struct error *err);

static inline void pg_clearp(PGresult **r)
{
	PQclear(*r);
}
#define cleanup_result __attribute__((cleanup(pg_clearp)))

// Add the call of pg_notify() that tells of a topic; NULL: of all.
void pg_notify_put(
	struct buffer *sql, struct pg_connection *c, const char *sender, const char *topic);

struct pg_listener;
// Connected already; it listens from now on. Takes notice of what others than `sender` tell.
struct pg_listener *pg_listener_start(
	struct database *db, struct pg_connection *c, const char *sender, struct error *err);
void pg_listener_notify(struct pg_listener *l, const char *topic); // tell others, soon
void pg_listener_stop(struct pg_listener *l);			   // NULL is fine
