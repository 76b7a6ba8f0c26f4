// SPDX-License-Identifier: Apache-2.0
#include "base/time.h"
#include "controller/http/internal.h"

#include <sys/socket.h>

// MHD ends a connection that is silent. One that sends a byte now and then would keep its thread
// for days: here is a bound for a head as a whole, and a least speed for a body. The next head may
// come after a pause between requests, which MHD has ended before.
enum { LOOK_MS = 1000, HEAD_MS = 30 * 1000, BODY_MS = 60 * 1000, BODY_BYTES_PER_S = 1024 };

static bool is_too_slow(const struct server *s, const struct connection *c, int64_t now)
{
	int64_t ms = now - c->since;
	int phase = c->phase; // clang does not switch on an atomic_int
	switch (phase) {
	case IDLE:
		return ms > HEAD_MS + s->options.idle_ms;
	case BODY:
		return ms > BODY_MS && c->received < (uint64_t)(ms / 1000) * BODY_BYTES_PER_S;
	default:
		return false;
	}
}

// A connection is in the list as long as its descriptor is open, so shutdown(2) meets no other
// one's.
static void look(struct server *s)
{
	int64_t now = now_ms();
	for (struct connection *c = s->connections; c; c = c->next)
		if (is_too_slow(s, c, now))
			shutdown(c->fd, SHUT_RDWR);
}

static void *watch(void *data)
{
	struct server *s = data;
	pthread_mutex_lock(&s->lock);
	while (!s->watcher_ends) {
		struct timespec at;
		clock_gettime(CLOCK_MONOTONIC, &at);
		at.tv_sec += LOOK_MS / 1000;
		pthread_cond_timedwait(&s->wake, &s->lock, &at);
		look(s);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

int watch_start(struct server *s, struct error *err)
{
	int rc = pthread_create(&s->watcher, NULL, watch, s);
	if (rc)
		return error_set_errno(err, rc, "a thread");
	s->watcher_runs = true;
	return 0;
}

void watch_stop(struct server *s)
{
	if (!s->watcher_runs)
		return;
	pthread_mutex_lock(&s->lock);
	s->watcher_ends = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->watcher, NULL);
	s->watcher_runs = false;
}

void watch_phase(struct connection *c, int phase)
{
	c->since = now_ms();
	c->received = 0;
	c->phase = phase;
}

static void add(struct server *s, struct connection *c)
{
	pthread_mutex_lock(&s->lock);
	c->next = s->connections;
	c->link = &s->connections;
	if (c->next)
		c->next->link = &c->next;
	s->connections = c;
	pthread_mutex_unlock(&s->lock);
}

static void drop(struct server *s, struct connection *c)
{
	pthread_mutex_lock(&s->lock);
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	pthread_mutex_unlock(&s->lock);
	free(c);
}

void watch_notify(void *server, struct MHD_Connection *mhd, void **context,
	enum MHD_ConnectionNotificationCode code)
{
	struct server *s = server;
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		struct connection *c = xcalloc(1, sizeof(*c));
		c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
		watch_phase(c, IDLE);
		add(s, c);
		*context = c;
		metrics_connections(s->metrics, 1);
	} else if (*context) {
		drop(s, *context);
		*context = NULL;
		metrics_connections(s->metrics, -1);
	}
}
