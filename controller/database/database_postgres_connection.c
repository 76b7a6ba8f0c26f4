// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"
#include "controller/database/database_postgres.h"

#include <stdio.h>
#include <stdlib.h>

enum {
	OID_BYTES = 17,
	OID_INTEGER = 20,
	OID_TEXT = 25,
	OID_REAL = 701,
	OID_INT2 = 21,
	OID_INT4 = 23
};
enum { OID_FLOAT4 = 700, OID_NUMERIC = 1700, OID_BOOL = 16 };

// What each session is told. A controller that vanished, with its machine or its network, must not
// keep its locks for long; and acknowledged is durable, however the server is set.
static const char session[] =
	"SET client_min_messages = warning; SET bytea_output = hex; SET "
	"standard_conforming_strings = on;"
	"SET default_transaction_isolation = 'read committed';"
	"SET idle_in_transaction_session_timeout = '30s'; SET lock_timeout = '15s';"
	"SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = "
	"3;"
	"SELECT set_config('synchronous_commit', 'on', false)"
	" WHERE current_setting('synchronous_commit') = 'off'";

// Its first line. libpq's texts name host and user, never the password.
static void explain_connection(const PGconn *handle, struct error *err)
{
	const char *text = PQerrorMessage(handle);
	bool password = PQconnectionNeedsPassword(handle) || PQconnectionUsedPassword(handle);
	int size = (int)strcspn(text, "\n");
	error_set(err, password ? ERROR_DENIED : ERROR_UNAVAILABLE, "the database: %.*s", size,
		size ? text : "the connection was lost");
}

static void be_silent(void *data, const PGresult *r)
{
	(void)data;
	(void)r;
}

static PGconn *dial(const char *url)
{
	// What the URL says comes last and counts. A server that does not answer is given up after
	// 20 s.
	static const char *const names[] = {"client_encoding", "fallback_application_name",
		"connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count",
		"tcp_user_timeout", "dbname", NULL};
	const char *values[] = {
		"UTF8", "stoker-controller", "5", "10", "5", "3", "20000", url, NULL};
	return PQconnectdbParams(names, values, 1);
}

int pg_connect(struct pg_connection *c, struct error *err)
{
	pg_disconnect(c);
	c->handle = dial(c->url);
	if (PQstatus(c->handle) != CONNECTION_OK) {
		explain_connection(c->handle, err);
		pg_disconnect(c);
		return -1;
	}
	PQsetNoticeReceiver(c->handle, be_silent, NULL);
	cleanup_result PGresult *r = pg_execute(c, session);
	if (pg_is_good(r))
		return 0;
	pg_explain(c, r, err);
	pg_disconnect(c);
	return -1;
}

void pg_disconnect(struct pg_connection *c)
{
	for (size_t i = 0; i < STATEMENTS; i++)
		free(c->statements.slots[i].key);
	c->statements = (struct statements){0};
	PQfinish(steal(c->handle));
}

bool pg_is_alive(const struct pg_connection *c)
{
	return c->handle && PQstatus(c->handle) == CONNECTION_OK;
}

bool pg_is_good(const PGresult *r)
{
	ExecStatusType status = PQresultStatus(r);
	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

PGresult *pg_execute(struct pg_connection *c, const char *sql)
{
	return PQexec(c->handle, sql);
}

enum tx_state pg_explain(struct pg_connection *c, const PGresult *r, struct error *err)
{
	const char *code = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	if (!pg_is_alive(c) || !code || !text) {
		explain_connection(c->handle, err);
		err->kind = ERROR_UNAVAILABLE;
		return TX_LOST;
	}
	if (streq(code, "40001") || streq(code, "40P01") || streq(code, "55P03")) {
		error_set(err, ERROR_UNAVAILABLE, "the database: %s", text);
		return TX_AGAIN;
	}
	bool full = starts_with(code, "53");
	error_set(err, full ? ERROR_LIMIT : ERROR_SYSTEM, "the database: %s", text);
	return TX_FAILED;
}

static Oid oid_of(enum database_type type)
{
	static const Oid oids[] = {[DATABASE_INTEGER] = OID_INTEGER,
		[DATABASE_REAL] = OID_REAL,
		[DATABASE_TEXT] = OID_TEXT,
		[DATABASE_BYTES] = OID_BYTES};
	return oids[type]; // of NULL: 0, the server decides
}

// ?1 becomes $1, save in texts.
static char *with_dollars(struct arena *a, const char *sql)
{
	char *text = arena_strdup(a, sql);
	bool quoted = false;
	for (char *s = text; *s; s++) {
		if (*s == '\'')
			quoted = !quoted;
		else if (*s == '?' && !quoted)
			*s = '$';
	}
	return text;
}

// The name of the prepared statement, or NULL with the result that says why there is none. The
// types are part of what it is: "?1 + 1" with a number that does not fit 32 bits would else be
// refused.
static const char *prepared(struct pg_connection *c, struct arena *a, const char *sql,
	const struct database_value *values, size_t count, PGresult **failure)
{
	Oid *types = arena_array(a, Oid, count);
	char *key = arena_alloc(a, count + strlen(sql) + 1);
	for (size_t i = 0; i < count; i++) {
		types[i] = oid_of(values[i].type);
		key[i] = (char)('0' + values[i].type);
	}
	memcpy(key + count, sql, strlen(sql) + 1);
	struct statement *s = statements_find(&c->statements, key);
	const char *name = arena_printf(a, "s%td", s - c->statements.slots);
	if (s->key && streq(s->key, key))
		return name;
	if (s->key)
		PQclear(pg_execute(c, arena_printf(a, "DEALLOCATE %s", name)));
	free(steal(s->key));
	cleanup_result PGresult *r =
		PQprepare(c->handle, name, with_dollars(a, sql), (int)count, types);
	if (!pg_is_good(r)) {
		*failure = steal(r);
		return NULL;
	}
	s->key = xstrdup(key);
	return name;
}

static const char *parameter(struct arena *a, const struct database_value *v)
{
	switch (v->type) {
	case DATABASE_INTEGER:
		return arena_printf(a, "%lld", (long long)v->integer);
	case DATABASE_REAL:
		return arena_printf(a, "%.17g", v->real);
	case DATABASE_TEXT:
		return v->text;
	case DATABASE_BYTES:
		return v->size ? v->text : "";
	default:
		return NULL;
	}
}

PGresult *pg_run(
	struct pg_connection *c, const char *sql, const struct database_value *values, size_t count)
{
	cleanup_arena struct arena a = {0};
	PGresult *failure = NULL;
	const char **texts = arena_array(&a, const char *, count);
	int *sizes = arena_array(&a, int, count), *binary = arena_array(&a, int, count);
	const char *name = prepared(c, &a, sql, values, count, &failure);
	if (!name)
		return failure;
	for (size_t i = 0; i < count; i++) {
		texts[i] = parameter(&a, &values[i]);
		binary[i] = values[i].type == DATABASE_BYTES;
		sizes[i] = binary[i] ? (int)values[i].size : 0;
	}
	return PQexecPrepared(c->handle, name, (int)count, texts, sizes, binary, 0);
}

static struct database_value bytes_of(const char *hex, struct arena *a)
{
	size_t size;
	unsigned char *bytes = PQunescapeBytea((const unsigned char *)hex, &size);
	char *copy = arena_strndup(a, bytes ? (const char *)bytes : "", bytes ? size : 0);
	PQfreemem(bytes);
	return database_bytes(copy, bytes ? size : 0);
}

static struct database_value value_of(const PGresult *r, int row, int column, struct arena *a)
{
	int64_t integer;
	const char *text = PQgetvalue(r, row, column);
	if (PQgetisnull(r, row, column))
		return (struct database_value){.type = DATABASE_NULL};
	switch (PQftype(r, column)) {
	case OID_INT2:
	case OID_INT4:
	case OID_INTEGER:
	case OID_NUMERIC: // the sum of integers
		if (parse_i64(text, &integer))
			return database_integer(integer);
		return database_real(strtod(text, NULL));
	case OID_BOOL:
		return database_integer(*text == 't');
	case OID_FLOAT4:
	case OID_REAL:
		return database_real(strtod(text, NULL));
	case OID_BYTES:
		return bytes_of(text, a);
	default:
		return database_text(arena_strdup(a, text));
	}
}

int pg_rows(const PGresult *r, struct arena *a, struct database_rows *rows, struct error *err)
{
	struct database_rows made = {(size_t)PQntuples(r), (size_t)PQnfields(r), NULL};
	if (made.count > DATABASE_ROWS_MAX)
		return error_set(
			err, ERROR_LIMIT, "a query gives more than %d rows", DATABASE_ROWS_MAX);
	if (!rows)
		return 0;
	made.values = arena_array(a, struct database_value, made.count * made.columns);
	for (size_t i = 0; i < made.count * made.columns; i++)
		made.values[i] = value_of(r, (int)(i / made.columns), (int)(i % made.columns), a);
	*rows = made;
	return 0;
}
