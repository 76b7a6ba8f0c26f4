// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"
#include "base/time.h"
#include "controller/database/database_postgres.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CHANNEL "stoker"
enum { PENDING_MAX = 16 * 1024, CLEAN_MS = 60000, RECONNECT_MS = 500 };

struct pg_listener {
	struct database *db;
	struct pg_connection *connection;
	const char *sender;
	pthread_t thread;
	int wake; // eventfd
	atomic_bool stopped;
	int64_t cleaned;
	pthread_mutex_t mutex;
	struct buffer pending; // topics to tell others of, each with its NUL
	bool pending_all;
};

void pg_notify_put(
	struct buffer *sql, struct pg_connection *c, const char *sender, const char *topic)
{
	cleanup_free char *payload = xasprintf("%s %s", sender, topic ? topic : "");
	char *quoted = PQescapeLiteral(c->handle, payload, strlen(payload));
	if (quoted) // not UTF-8: no topic of ours
		buffer_printf(sql, "SELECT pg_notify('" CHANNEL "', %s);", quoted);
	PQfreemem(quoted);
}

// Many appends to one log between two looks are one message.
static bool is_pending(const struct pg_listener *l, const char *topic)
{
	const struct buffer *p = &l->pending;
	for (size_t at = 0; at < p->size; at += strlen(p->data + at) + 1)
		if (streq(p->data + at, topic))
			return true;
	return l->pending_all;
}

void pg_listener_notify(struct pg_listener *l, const char *topic)
{
	size_t size = strlen(topic) + 1;
	uint64_t one = 1;
	pthread_mutex_lock(&l->mutex);
	if (l->pending.size + size > PENDING_MAX)
		l->pending_all = true;
	else if (!is_pending(l, topic))
		buffer_append(&l->pending, topic, size);
	pthread_mutex_unlock(&l->mutex);
	if (write(l->wake, &one, sizeof(one)) < 0) {
		// It is full of wakes already.
	}
}

static bool execute(struct pg_listener *l, const char *sql)
{
	cleanup_result PGresult *r = pg_execute(l->connection, sql);
	return pg_is_good(r);
}

static void tell_others(struct pg_listener *l)
{
	cleanup_buffer struct buffer topics = {0}, sql = {0};
	pthread_mutex_lock(&l->mutex);
	topics = l->pending;
	bool all = l->pending_all;
	l->pending = (struct buffer){0};
	l->pending_all = false;
	pthread_mutex_unlock(&l->mutex);
	if (all)
		pg_notify_put(&sql, l->connection, l->sender, NULL);
	for (size_t at = 0; !all && at < topics.size; at += strlen(topics.data + at) + 1)
		pg_notify_put(&sql, l->connection, l->sender, topics.data + at);
	if (sql.size && !execute(l, sql.data)) {
		pthread_mutex_lock(&l->mutex);
		l->pending_all = true; // whom they would have told looks at everything instead
		pthread_mutex_unlock(&l->mutex);
	}
}

// "sender topic"; our own were told when they were committed.
static void hear(struct pg_listener *l)
{
	PGnotify *n;
	PQconsumeInput(l->connection->handle);
	while ((n = PQnotifies(l->connection->handle))) {
		const char *topic = strchr(n->extra, ' ');
		size_t sender = topic ? (size_t)(topic - n->extra) : 0;
		if (topic &&
			(sender != strlen(l->sender) || strncmp(n->extra, l->sender, sender) != 0))
			database_tell(l->db, topic[1] ? topic + 1 : NULL);
		PQfreemem(n);
	}
}

// Marks are asked for within seconds, never after so long (database_postgres.c).
static void clean(struct pg_listener *l)
{
	if (now_ms() - l->cleaned < CLEAN_MS)
		return;
	l->cleaned = now_ms();
	execute(l, "DELETE FROM commit_mark WHERE time < now() - interval '10 minutes'");
}

static void sleep_or_wake(struct pg_listener *l, bool connected)
{
	uint64_t count;
	struct pollfd fds[] = {{.fd = connected ? l->wake : -1, .events = POLLIN},
		{.fd = connected ? PQsocket(l->connection->handle) : -1, .events = POLLIN}};
	poll(fds, array_size(fds), connected ? CLEAN_MS : RECONNECT_MS);
	if (connected && read(l->wake, &count, sizeof(count)) < 0) {
		// Nobody woke us: there is something to hear.
	}
}

static bool reconnect(struct pg_listener *l)
{
	struct error err;
	if (pg_connect(l->connection, &err) < 0)
		return false;
	if (!execute(l, "LISTEN " CHANNEL)) {
		pg_disconnect(l->connection);
		return false;
	}
	database_tell(l->db, NULL); // what was said meanwhile, nobody heard
	return true;
}

static void *listen_to_others(void *data)
{
	struct pg_listener *l = data;
	while (!atomic_load(&l->stopped)) {
		bool connected = pg_is_alive(l->connection) || reconnect(l);
		if (connected) {
			tell_others(l);
			clean(l);
			hear(l);
		}
		if (connected == pg_is_alive(l->connection))
			sleep_or_wake(l, connected);
	}
	return NULL;
}

struct pg_listener *pg_listener_start(
	struct database *db, struct pg_connection *c, const char *sender, struct error *err)
{
	struct pg_listener *l = xcalloc(1, sizeof(*l));
	*l = (struct pg_listener){.db = db, .connection = c, .sender = sender};
	pthread_mutex_init(&l->mutex, NULL);
	l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!execute(l, "LISTEN " CHANNEL))
		pg_explain(c, NULL, err);
	else if (l->wake < 0 || pthread_create(&l->thread, NULL, listen_to_others, l) != 0)
		error_set(err, ERROR_SYSTEM, "a thread for the database's messages");
	else
		return l;
	if (l->wake >= 0)
		close(l->wake);
	free(l);
	return NULL;
}

void pg_listener_stop(struct pg_listener *l)
{
	uint64_t one = 1;
	if (!l)
		return;
	atomic_store(&l->stopped, true);
	if (write(l->wake, &one, sizeof(one)) < 0) {
		// It is full of wakes already.
	}
	pthread_join(l->thread, NULL);
	close(l->wake);
	buffer_release(&l->pending);
	pthread_mutex_destroy(&l->mutex);
	free(l);
}
