// SPDX-License-Identifier: Apache-2.0
//
// PostgreSQL. Writes are SERIALIZABLE, so that what was read still holds when it is acted upon;
// whom the server refuses for it begins again. A write leaves a row in `commit_mark` under a number
// of its own. When the connection breaks in a commit, an attempt to put the same row there finds
// out, for good: either it is there, or the old transaction can never commit any more.
// (txid_status() would do without the table, but after a crash of the server a number that never
// reached the disk is given out again.)
#include "controller/database/database_postgres.h"
#include "base/text.h"
#include "base/time.h"
#include "controller/database/pool.h"

#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

enum { START_MS = 30000, FIND_OUT_MS = 20000, ID_SIZE = 33 };

struct postgres {
	struct database base;
	char *url;
	char id[ID_SIZE]; // of this process, in what it tells others
	struct pg_connection connections[POOL_MAX], listening;
	struct pool pool;
	struct pg_listener *listener;
};

static struct postgres *postgres_of(struct database *db)
{
	return (struct postgres *)db;
}

static void make_id(char id[ID_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t bytes[(ID_SIZE - 1) / 2];
	while (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) {
	}
	for (size_t i = 0; i < ID_SIZE - 1; i++)
		id[i] = digits[bytes[i / 2] >> (i % 2 * 4) & 15];
	id[ID_SIZE - 1] = '\0';
}

// As tx_fail(), by what became of a statement.
static int fail(struct database_tx *tx, const PGresult *r, struct error *err)
{
	struct error why;
	enum tx_state state = pg_explain(tx->connection, r, &why);
	return tx_fail(tx, state, &why, err);
}

static void give_back(struct database_tx *tx)
{
	pool_give(&postgres_of(tx->db)->pool, tx->connection);
}

static int postgres_begin(struct database_tx *tx, struct error *err)
{
	struct pg_connection *c = pool_take(&postgres_of(tx->db)->pool, tx->deadline, err);
	if (!c)
		return -1;
	tx->connection = c;
	if (!pg_is_alive(c) && pg_connect(c, err) < 0) {
		tx->state = TX_LOST;
		err->kind = ERROR_UNAVAILABLE;
		give_back(tx);
		return -1;
	}
	cleanup_result PGresult *r =
		pg_execute(c, tx->writes ? "BEGIN ISOLATION LEVEL SERIALIZABLE"
					 : "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY");
	if (pg_is_good(r))
		return 0;
	fail(tx, r, err);
	give_back(tx);
	return -1;
}

static int64_t postgres_run(struct database_tx *tx, struct arena *a, const char *sql,
	const struct database_value *values, size_t count, struct database_rows *rows,
	struct error *err)
{
	uint64_t changed = 0;
	struct error why;
	cleanup_result PGresult *r = pg_run(tx->connection, sql, values, count);
	if (!pg_is_good(r))
		return fail(tx, r, err);
	if (pg_rows(r, a, rows, &why) < 0)
		return tx_fail(tx, TX_FAILED, &why, err);
	bool counted = parse_u64(PQcmdTuples(r), &changed);
	if (!starts_with(PQcmdStatus(r), "SELECT") && (changed || !counted))
		tx->changed = true;
	return (int64_t)changed;
}

static void postgres_rollback(struct database_tx *tx)
{
	if (pg_is_alive(tx->connection))
		PQclear(pg_execute(tx->connection, "ROLLBACK"));
	give_back(tx);
}

// The commit was sent, and no answer came. 0: it was done. -1: it was not and never will be
// (TX_LOST), or that could not be found out. The mark that we put is told apart from the
// transaction's, should this be cut off as well.
static int find_out(struct database_tx *tx, const char *mark, struct error *err)
{
	struct pg_connection *c = tx->connection;
	int64_t until = now_ms() + FIND_OUT_MS;
	cleanup_free char *sql = xasprintf(
		"INSERT INTO commit_mark (id, refused) VALUES ('%s', true) ON CONFLICT (id)"
		" DO UPDATE SET refused = commit_mark.refused RETURNING refused",
		mark);
	for (; now_ms() < until; usleep(200000)) {
		if (!pg_is_alive(c) && pg_connect(c, err) < 0)
			continue;
		cleanup_result PGresult *r = pg_execute(c, sql);
		if (!pg_is_good(r) || PQntuples(r) != 1)
			continue;
		if (streq(PQgetvalue(r, 0, 0), "f"))
			return 0;
		tx->state = TX_LOST;
		return error_set(err, ERROR_UNAVAILABLE,
			"the connection to the database was lost in a commit");
	}
	tx->state = TX_FAILED;
	return error_set(err, ERROR_UNAVAILABLE,
		"the connection to the database was lost; whether the change was made is not "
		"known");
}

static char *commit_text(struct database_tx *tx, const char *mark)
{
	struct buffer sql = {0};
	const struct buffer *topics = &tx->topics;
	for (size_t at = 0; at < topics->size; at += strlen(topics->data + at) + 1)
		pg_notify_put(&sql, tx->connection, postgres_of(tx->db)->id, topics->data + at);
	if (tx->changed)
		buffer_printf(&sql, "INSERT INTO commit_mark (id) VALUES ('%s');", mark);
	buffer_puts(&sql, "COMMIT");
	return buffer_steal(&sql);
}

static int postgres_commit(struct database_tx *tx, struct error *err)
{
	char mark[ID_SIZE];
	make_id(mark);
	cleanup_free char *sql = commit_text(tx, mark);
	cleanup_result PGresult *r = pg_execute(tx->connection, sql);
	int rc = 0;
	if (!pg_is_good(r)) {
		rc = fail(tx, r, err);
		if (tx->state == TX_LOST && tx->changed)
			rc = find_out(tx, mark, err);
		else if (tx->state != TX_LOST)
			PQclear(pg_execute(tx->connection, "ROLLBACK"));
	}
	give_back(tx);
	return rc;
}

static void postgres_notify(struct database *db, const char *topic)
{
	pg_listener_notify(postgres_of(db)->listener, topic);
}

static void postgres_close(struct database *db)
{
	struct postgres *p = postgres_of(db);
	pg_listener_stop(p->listener);
	pg_disconnect(&p->listening);
	for (size_t i = 0; i < POOL_MAX; i++)
		pg_disconnect(&p->connections[i]);
	pool_release(&p->pool);
	free(p->url);
	free(p);
}

// Its own texts would repeat what was wrong, which may be the password.
static int check_url(const char *url, struct error *err)
{
	char *text = NULL;
	PQconninfoOption *options = PQconninfoParse(url, &text);
	PQfreemem(text);
	if (!options)
		return error_set(err, ERROR_INVALID,
			"the database: not a valid URL (postgresql://user:password@host/name; "
			"special characters as %%XX)");
	PQconninfoFree(options);
	return 0;
}

static int wait_for_server(struct pg_connection *c, struct error *err)
{
	int64_t until = now_ms() + START_MS;
	while (pg_connect(c, err) < 0) {
		if (err->kind == ERROR_DENIED || now_ms() >= until)
			return -1;
		usleep(500000);
	}
	return 0;
}

static int execute(struct pg_connection *c, const char *sql, struct error *err)
{
	cleanup_result PGresult *r = pg_execute(c, sql);
	if (pg_is_good(r))
		return 0;
	pg_explain(c, r, err);
	return -1;
}

// One controller at a time: the lock is the session's, so a killed one does not keep it.
static int make_tables(struct postgres *p, struct error *err)
{
	static const char lock[] = "SET lock_timeout = 0; SELECT pg_advisory_lock(7316491)",
			  mark[] = "CREATE TABLE IF NOT EXISTS commit_mark (id UUID PRIMARY KEY,"
				   " refused BOOLEAN NOT NULL DEFAULT false,"
				   " time TIMESTAMPTZ NOT NULL DEFAULT now())",
			  unlock[] = "SET lock_timeout = '15s'; SELECT pg_advisory_unlock(7316491)";
	if (execute(&p->listening, lock, err) < 0 || execute(&p->listening, mark, err) < 0 ||
		database_migrate(&p->base, migrations, migration_count, err) < 0)
		return -1;
	return execute(&p->listening, unlock, err);
}

static int open_all(struct postgres *p, struct error *err)
{
	if (check_url(p->url, err) < 0 || wait_for_server(&p->listening, err) < 0)
		return -1;
	for (size_t i = 0; i < POOL_MAX; i++)
		pool_give(&p->pool, &p->connections[i]);
	if (make_tables(p, err) < 0)
		return -1;
	p->listener = pg_listener_start(&p->base, &p->listening, p->id, err);
	return p->listener ? 0 : -1;
}

struct database *database_postgres_open(const char *url, struct error *err)
{
	static const struct database_ops ops = {
		.bytes_type = "BYTEA",
		.bytewise = " COLLATE \"C\"",
		.skip_locked = " FOR UPDATE SKIP LOCKED",
		.shared = true,
		.begin = postgres_begin,
		.run = postgres_run,
		.commit = postgres_commit,
		.rollback = postgres_rollback,
		.notify = postgres_notify,
		.close = postgres_close,
	};
	struct postgres *p = xcalloc(1, sizeof(*p));
	p->base.ops = &ops;
	p->url = xstrdup(url);
	make_id(p->id);
	pool_init(&p->pool);
	p->listening.url = p->url;
	for (size_t i = 0; i < POOL_MAX; i++)
		p->connections[i].url = p->url;
	if (open_all(p, err) == 0)
		return &p->base;
	postgres_close(&p->base);
	return NULL;
}
