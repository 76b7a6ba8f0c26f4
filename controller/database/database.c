// SPDX-License-Identifier: Apache-2.0
#include "controller/database/database.h"

#include "base/text.h"
#include "base/time.h"
#include "controller/database/database_internal.h"

#include <stdlib.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000, PING_MS = 3000, TOPIC_MAX = 200 };

struct database *database_open(const char *where, struct error *err)
{
	if (starts_with(where, "postgresql://") || starts_with(where, "postgres://"))
		return database_postgres_open(where, err);
	return database_sqlite_open(where, err);
}

void database_close(struct database *db)
{
	if (db)
		db->ops->close(db);
}

static int attempt(struct database_tx *tx, database_fn *fn, void *data, struct error *err)
{
	const struct database_ops *ops = tx->db->ops;
	if (ops->begin(tx, err) < 0)
		return -1;
	int rc = fn(tx, data, err);
	if (rc == 0 && tx->state != TX_GOOD) {
		*err = tx->error;
		rc = -1;
	}
	if (rc == 0)
		return ops->commit(tx, err);
	ops->rollback(tx);
	return -1;
}

static void tell_topics(struct database_tx *tx)
{
	for (size_t at = 0; at < tx->topics.size; at += strlen(tx->topics.data + at) + 1)
		database_tell(tx->db, tx->topics.data + at);
}

// A conflict is over soon, and who was in it shall not meet again; a server takes seconds to come
// back.
static void back_off(enum tx_state state, unsigned tries)
{
	unsigned shift = tries < 6 ? tries : 6;
	unsigned us = (state == TX_AGAIN ? 1000U : 10000U) << shift;
	usleep(us / 2 + (unsigned)random() % us);
}

static int transact(struct database *db, bool writes, int64_t patience_ms, database_fn *fn,
	void *data, struct error *err)
{
	int64_t deadline = now_ms() + patience_ms;
	for (unsigned tries = 0;; tries++) {
		struct database_tx tx = {.db = db, .writes = writes, .deadline = deadline};
		int rc = attempt(&tx, fn, data, err);
		if (rc == 0)
			tell_topics(&tx);
		buffer_release(&tx.topics);
		if (rc == 0 || tx.state == TX_GOOD || tx.state == TX_FAILED)
			return rc;
		if (now_ms() >= deadline) {
			err->kind = ERROR_UNAVAILABLE;
			return -1;
		}
		back_off(tx.state, tries);
	}
}

int database_write(struct database *db, database_fn *fn, void *data, struct error *err)
{
	return transact(db, true, PATIENCE_MS, fn, data, err);
}

int database_read(struct database *db, database_fn *fn, void *data, struct error *err)
{
	return transact(db, false, PATIENCE_MS, fn, data, err);
}

int tx_fail(struct database_tx *tx, enum tx_state state, const struct error *why, struct error *err)
{
	if (tx->state == TX_GOOD) {
		tx->state = state;
		tx->error = *why;
	}
	*err = *why;
	return -1;
}

int64_t database_run(struct database_tx *tx, struct arena *a, const char *sql,
	const struct database_value *values, size_t count, struct database_rows *rows,
	struct error *err)
{
	if (tx->state != TX_GOOD) { // an error that was passed over
		*err = tx->error;
		return -1;
	}
	return tx->db->ops->run(tx, a, sql, values, count, rows, err);
}

const char *database_skip_locked(const struct database_tx *tx)
{
	return tx->db->ops->skip_locked;
}

void database_notify(struct database_tx *tx, const char *topic)
{
	if (strlen(topic) <= TOPIC_MAX)
		buffer_append(&tx->topics, topic, strlen(topic) + 1);
}

void database_on_notify(struct database *db, void (*fn)(void *data, const char *topic), void *data)
{
	db->told_data = data;
	atomic_store(&db->told, fn);
}

void database_tell(struct database *db, const char *topic)
{
	void (*told)(void *, const char *) = atomic_load(&db->told);
	if (told)
		told(db->told_data, topic);
}

void database_notify_now(struct database *db, const char *topic)
{
	database_tell(db, topic);
	if (db->ops->notify && strlen(topic) <= TOPIC_MAX)
		db->ops->notify(db, topic);
}

static int ping(struct database_tx *tx, void *data, struct error *err)
{
	return database_run(tx, data, "SELECT 1", database_no_values, NULL, err) == 1 ? 0 : -1;
}

int database_ping(struct database *db, struct error *err)
{
	cleanup_arena struct arena a = {0};
	return transact(db, false, PING_MS, ping, &a, err);
}

bool database_is_shared(const struct database *db)
{
	return db->ops->shared;
}

int database_claim(struct database *db, struct error *err)
{
	return db->ops->claim ? db->ops->claim(db, err) : 0;
}
