// SPDX-License-Identifier: Apache-2.0
//
// With SQLite; with the PostgreSQL of STOKER_TEST_DATABASE, whose tables are dropped, where that is
// set (tests/integration/test_database.py).
#include "controller/database/database.h"

#include "base/file.h"
#include "base/text.h"
#include "controller/database/database_internal.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
	char folder[64], file[96];
	const char *where;
	struct database *db;
};

static void drop_all(const char *url)
{
	PGconn *c = PQconnectdb(url);
	PGresult *r = PQexec(c, "SET client_min_messages = error; DROP SCHEMA public CASCADE;"
				"CREATE SCHEMA public");
	if (PQresultStatus(r) != PGRES_COMMAND_OK)
		fail_msg("%s", PQerrorMessage(c));
	PQclear(r);
	PQfinish(c);
}

static int set_up(void **state)
{
	static struct place p;
	struct error err;
	snprintf(p.folder, sizeof(p.folder), "/tmp/test_database.XXXXXX");
	assert_non_null(mkdtemp(p.folder));
	snprintf(p.file, sizeof(p.file), "%s/stoker.db", p.folder);
	p.where = getenv("STOKER_TEST_DATABASE");
	if (p.where)
		drop_all(p.where);
	else
		p.where = p.file;
	p.db = database_open(p.where, &err);
	if (!p.db)
		fail_msg("%s", err.text);
	*state = &p;
	return 0;
}

static int tear_down(void **state)
{
	struct place *p = *state;
	struct error err;
	database_close(p->db);
	return directory_remove(AT_FDCWD, p->folder, &err);
}

// One statement without values, a transaction of its own.
static int statement(struct database_tx *tx, void *data, struct error *err)
{
	return database_run(tx, NULL, data, database_no_values, NULL, err) < 0 ? -1 : 0;
}

static void execute(struct database *db, const char *sql)
{
	struct error err = {0};
	if (database_write(db, statement, (void *)(uintptr_t)sql, &err) < 0)
		fail_msg("%s: %s", sql, err.text);
}

struct question {
	const char *sql;
	int64_t answer;
};

static int ask(struct database_tx *tx, void *data, struct error *err)
{
	struct question *q = data;
	cleanup_arena struct arena a = {0};
	struct database_rows rows;
	if (database_run(tx, &a, q->sql, database_no_values, &rows, err) < 0)
		return -1;
	q->answer = rows.count ? database_get_integer(&rows, 0, 0, -1) : -1;
	return 0;
}

static int64_t number(struct database *db, const char *sql)
{
	struct question q = {sql, 0};
	struct error err = {0};
	if (database_read(db, ask, &q, &err) < 0)
		fail_msg("%s: %s", sql, err.text);
	return q.answer;
}

static void test_file(void **state)
{
	struct place *p = *state;
	struct error err;
	struct stat st;
	assert_int_equal(stat(p->file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_false(database_is_shared(p->db));
	assert_int_equal(database_ping(p->db, &err), 0);
	assert_null(database_open("/nowhere/stoker.db", &err));
	assert_string_equal(
		err.text, "database /nowhere/stoker.db: make it: No such file or directory");
}

static int round_trip(struct database_tx *tx, void *data, struct error *err)
{
	static const uint8_t bytes[] = {0, 1, 0xff, 0};
	struct arena *a = data;
	struct database_rows rows;
	assert_int_equal(
		database_run(tx, a, "INSERT INTO t (i, d, s, b, n) VALUES (?1, ?2, ?3, ?4, ?5)",
			database_values(database_integer(INT64_MIN), database_real(0.1),
				database_text("gr\xc3\xbc\xc3\x9f' ?1"),
				database_bytes(bytes, sizeof(bytes)), database_text(NULL)),
			NULL, err),
		1);
	assert_int_equal(
		database_run(tx, a,
			"INSERT INTO t (i, d, s, b, n) VALUES (?1, ?2, ?3, ?4, ?5) RETURNING i, s",
			database_values(database_integer(7), database_integer(3), database_text(""),
				database_bytes("", 0), database_integer(9)),
			&rows, err),
		1);
	assert_int_equal(rows.count, 1);
	assert_int_equal(database_get_integer(&rows, 0, 0, 0), 7);
	assert_string_equal(database_get_text(&rows, 0, 1), "");
	return 0;
}

static int read_back(struct database_tx *tx, void *data, struct error *err)
{
	struct database_rows r;
	assert_int_equal(database_run(tx, data, "SELECT i, d, s, b, n, s IS NULL FROM t ORDER BY i",
				 database_no_values, &r, err),
		2);
	assert_int_equal(r.columns, 6);
	assert_true(database_get_integer(&r, 0, 0, 0) == INT64_MIN);
	assert_true(database_get_real(&r, 0, 1) == 0.1);
	assert_string_equal(database_get_text(&r, 0, 2), "gr\xc3\xbc\xc3\x9f' ?1");
	assert_int_equal(database_at(&r, 0, 2)->size, 10);
	assert_int_equal(database_at(&r, 0, 3)->type, DATABASE_BYTES);
	assert_int_equal(database_at(&r, 0, 3)->size, 4);
	assert_memory_equal(database_at(&r, 0, 3)->text, "\0\1\377\0", 5);
	assert_int_equal(database_at(&r, 0, 4)->type, DATABASE_NULL);
	assert_null(database_get_text(&r, 0, 4));
	assert_int_equal(database_get_integer(&r, 0, 4, 42), 42);
	assert_true(database_get_real(&r, 1, 1) == 3); // an integer put where numbers are
	assert_string_equal(database_get_text(&r, 1, 2), "");
	assert_int_equal(database_at(&r, 1, 3)->size, 0);
	assert_int_equal(database_get_integer(&r, 1, 4, 0), 9);
	assert_int_equal(database_get_integer(&r, 1, 5, -1), 0);
	return 0;
}

static void test_types(void **state)
{
	struct place *p = *state;
	cleanup_arena struct arena a = {0};
	struct error err;
	execute(p->db, "CREATE TABLE t (i BIGINT, d DOUBLE PRECISION, s TEXT, n BIGINT)");
	execute(p->db, p->where == p->file ? "ALTER TABLE t ADD COLUMN b BLOB"
					   : "ALTER TABLE t ADD COLUMN b BYTEA");
	assert_int_equal(database_write(p->db, round_trip, &a, &err), 0);
	assert_int_equal(database_read(p->db, read_back, &a, &err), 0);
}

static int count_changes(struct database_tx *tx, void *data, struct error *err)
{
	(void)data;
	assert_int_equal(database_run(tx, NULL, "INSERT INTO t VALUES (1), (2), (3)",
				 database_no_values, NULL, err),
		3);
	assert_int_equal(database_run(tx, NULL, "UPDATE t SET i = i + 1 WHERE i > ?1",
				 database_values(database_integer(1)), NULL, err),
		2);
	assert_int_equal(
		database_run(tx, NULL, "DELETE FROM t WHERE i > 9", database_no_values, NULL, err),
		0);
	assert_int_equal(
		database_run(tx, NULL, "SELECT i FROM t", database_no_values, NULL, err), 3);
	return 0;
}

static void test_changes(void **state)
{
	struct place *p = *state;
	struct error err;
	execute(p->db, "CREATE TABLE t (i BIGINT)");
	assert_int_equal(database_write(p->db, count_changes, NULL, &err), 0);
}

static int insert_and_refuse(struct database_tx *tx, void *data, struct error *err)
{
	assert_int_equal(statement(tx, (void *)(uintptr_t) "INSERT INTO t VALUES (1)", err), 0);
	database_notify(tx, "queue");
	if (data)
		return error_set(err, ERROR_NOT_FOUND, "no such run");
	// A statement that fails and is passed over still undoes all.
	assert_int_equal(statement(tx, (void *)(uintptr_t) "INSERT INTO t VALUES (1)", err), -1);
	assert_int_equal(statement(tx, (void *)(uintptr_t) "INSERT INTO t VALUES (2)", err), -1);
	return 0;
}

static void never(void *data, const char *topic)
{
	(void)data;
	fail_msg("told of %s", topic);
}

static void test_rollback(void **state)
{
	struct place *p = *state;
	struct error err;
	execute(p->db, "CREATE TABLE t (i BIGINT PRIMARY KEY)");
	database_on_notify(p->db, never, NULL);
	assert_int_equal(database_write(p->db, insert_and_refuse, p, &err), -1);
	assert_int_equal(err.kind, ERROR_NOT_FOUND);
	assert_string_equal(err.text, "no such run");
	assert_int_equal(database_write(p->db, insert_and_refuse, NULL, &err), -1);
	assert_int_equal(err.kind, ERROR_SYSTEM);
	assert_non_null(strcasestr(err.text, "unique constraint"));
	assert_int_equal(number(p->db, "SELECT count(*) FROM t"), 0);
}

static void test_reads_do_not_write(void **state)
{
	struct place *p = *state;
	struct error err;
	execute(p->db, "CREATE TABLE t (i BIGINT)");
	assert_int_equal(database_read(p->db, statement,
				 (void *)(uintptr_t) "INSERT INTO t VALUES (1)", &err),
		-1);
	assert_int_equal(number(p->db, "SELECT count(*) FROM t"), 0);
}

static void test_limits(void **state)
{
	struct place *p = *state;
	struct error err;
	const char *many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
			   " WHERE i < 100001) SELECT i FROM n";
	assert_int_equal(database_read(p->db, statement, (void *)(uintptr_t)many, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_string_equal(err.text, "a query gives more than 100000 rows");
}

// The first time as if the database had asked for another.
static int conflict_once(struct database_tx *tx, void *data, struct error *err)
{
	int *calls = data;
	struct error why;
	assert_int_equal(statement(tx, (void *)(uintptr_t) "INSERT INTO t VALUES (1)", err), 0);
	database_notify(tx, "queue");
	if (++*calls > 1)
		return 0;
	error_set(&why, ERROR_UNAVAILABLE, "conflict");
	return tx_fail(tx, TX_AGAIN, &why, err);
}

static void count_told(void *data, const char *topic)
{
	assert_string_equal(topic, "queue");
	++*(int *)data;
}

static void test_again(void **state)
{
	struct place *p = *state;
	struct error err;
	int calls = 0, told = 0;
	execute(p->db, "CREATE TABLE t (i BIGINT)");
	database_on_notify(p->db, count_told, &told);
	assert_int_equal(database_write(p->db, conflict_once, &calls, &err), 0);
	assert_int_equal(calls, 2);
	assert_int_equal(told, 1);
	assert_int_equal(number(p->db, "SELECT count(*) FROM t"), 1);
}

struct listener {
	struct database *db;
	int told;
	int64_t seen;
};

// What was told is there already, for everybody.
static void look(void *data, const char *topic)
{
	struct listener *l = data;
	assert_string_equal(topic, "run/1");
	l->told++;
	l->seen = number(l->db, "SELECT count(*) FROM t");
}

static int insert_and_tell(struct database_tx *tx, void *data, struct error *err)
{
	struct listener *l = data;
	database_notify(tx, "run/1");
	assert_int_equal(l->told, 0);
	return statement(tx, (void *)(uintptr_t) "INSERT INTO t VALUES (1)", err);
}

static void test_notify(void **state)
{
	struct place *p = *state;
	struct listener l = {p->db, 0, 0};
	struct error err;
	execute(p->db, "CREATE TABLE t (i BIGINT)");
	database_on_notify(p->db, look, &l);
	assert_int_equal(database_write(p->db, insert_and_tell, &l, &err), 0);
	assert_int_equal(l.told, 1);
	assert_int_equal(l.seen, 1);
	database_notify_now(p->db, "run/1");
	assert_int_equal(l.told, 2);
}

static int increment(struct database_tx *tx, void *data, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct database_rows r;
	(void)data;
	// Read, think, write: lost if another one came between.
	if (database_run(tx, &a, "SELECT i FROM t", database_no_values, &r, err) < 0)
		return -1;
	int64_t next = database_get_integer(&r, 0, 0, 0) + 1;
	return database_run(tx, &a, "UPDATE t SET i = ?1", database_values(database_integer(next)),
		       NULL, err) < 0
		       ? -1
		       : 0;
}

enum { THREADS = 8, ROUNDS = 25 };

static void *increment_often(void *data)
{
	struct error err = {0};
	for (int i = 0; i < ROUNDS; i++)
		if (database_write(data, increment, NULL, &err) < 0)
			return data;
	return NULL;
}

static void test_threads(void **state)
{
	struct place *p = *state;
	pthread_t threads[THREADS];
	execute(p->db, "CREATE TABLE t (i BIGINT)");
	execute(p->db, "INSERT INTO t VALUES (0)");
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, increment_often, p->db), 0);
	for (int i = 0; i < THREADS; i++) {
		void *failed = NULL;
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(number(p->db, "SELECT i FROM t"), THREADS * ROUNDS);
}

static const char *const first[] = {"CREATE TABLE m (b @BYTES@)", NULL};
static const char *const second[] = {
	"ALTER TABLE m ADD COLUMN c BIGINT DEFAULT 5", "INSERT INTO m VALUES (NULL, 6)", NULL};
static const char *const broken[] = {"INSERT INTO m VALUES (NULL, 7)", "NONSENSE", NULL};
static const struct migration list[] = {{101, first}, {102, second}, {103, broken}};

static void test_migrations(void **state)
{
	struct place *p = *state;
	struct error err;
	const char *version = "SELECT version FROM schema_version";
	assert_int_equal(number(p->db, version), migrations[migration_count - 1].version);
	assert_int_equal(database_migrate(p->db, list, 1, &err), 0);
	assert_int_equal(number(p->db, version), 101);
	assert_int_equal(database_migrate(p->db, list, 2, &err), 0);
	assert_int_equal(database_migrate(p->db, list, 2, &err), 0); // there is nothing to do
	assert_int_equal(number(p->db, version), 102);
	assert_int_equal(number(p->db, "SELECT sum(c) FROM m"), 6);
	// One that fails leaves nothing.
	assert_int_equal(database_migrate(p->db, list, 3, &err), -1);
	assert_true(starts_with(err.text, "version 103 of the tables: the database: "));
	assert_int_equal(number(p->db, version), 102);
	assert_int_equal(number(p->db, "SELECT sum(c) FROM m"), 6);
}

static void test_later_version(void **state)
{
	struct place *p = *state;
	struct error err;
	execute(p->db, "UPDATE schema_version SET version = 1000");
	database_close(p->db);
	p->db = database_open(p->where, &err);
	assert_null(p->db);
	assert_int_equal(err.kind, ERROR_INVALID);
	assert_non_null(
		strstr(err.text, "its tables are of version 1000, this program knows up to"));
}

static void test_claim(void **state)
{
	struct place *p = *state;
	struct error err;
	struct database *other = database_open(p->file, &err); // as a command does
	assert_non_null(other);
	assert_int_equal(database_claim(p->db, &err), 0);
	assert_int_equal(database_claim(other, &err), -1);
	assert_int_equal(err.kind, ERROR_UNAVAILABLE);
	assert_non_null(
		strstr(err.text, "/stoker.db: another stoker-controller serves this database"));
	database_close(p->db);
	p->db = other;
	assert_int_equal(database_claim(other, &err), 0);
}

static void test_statements(void **state)
{
	struct statements *s = xcalloc(1, sizeof(*s));
	struct statement *found[2 * STATEMENTS];
	(void)state;
	// More than there is room for: each is found while it is the newest, and something made
	// room.
	for (size_t i = 0; i < array_size(found); i++) {
		cleanup_free char *key = xasprintf("SELECT %zu", i);
		found[i] = statements_find(s, key);
		free(found[i]->key);
		found[i]->key = steal(key);
		assert_ptr_equal(statements_find(s, found[i]->key), found[i]);
	}
	for (size_t i = 0; i < STATEMENTS; i++)
		free(s->slots[i].key);
	free(s);
}

#define with_place(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_place(test_types),
		with_place(test_changes),
		with_place(test_rollback),
		with_place(test_reads_do_not_write),
		with_place(test_limits),
		with_place(test_again),
		with_place(test_notify),
		with_place(test_threads),
		with_place(test_migrations),
		with_place(test_later_version),
	};
	const struct CMUnitTest of_sqlite[] = {
		with_place(test_file),
		with_place(test_claim),
		cmocka_unit_test(test_statements),
	};
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	if (!getenv("STOKER_TEST_DATABASE"))
		rc += cmocka_run_group_tests(of_sqlite, NULL, NULL);
	return rc;
}
