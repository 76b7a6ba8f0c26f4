// SPDX-License-Identifier: Apache-2.0
#include "controller/database/hub.h"

#include "base/time.h"

#include <pthread.h>
#include <stdatomic.h>

// Each topic has a slot; two that share one wake each other for nothing. With one waiter per node
// and 2,000 nodes that is seldom.
enum { SLOTS = 4096 };

struct slot {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	uint64_t count;
};

struct hub {
	struct slot slots[SLOTS];
	atomic_bool stopped;
};

struct hub *hub_new(void)
{
	struct hub *h = xcalloc(1, sizeof(*h));
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	for (size_t i = 0; i < SLOTS; i++) {
		pthread_mutex_init(&h->slots[i].mutex, NULL);
		pthread_cond_init(&h->slots[i].changed, &monotonic);
	}
	pthread_condattr_destroy(&monotonic);
	return h;
}

void hub_free(struct hub *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < SLOTS; i++) {
		pthread_cond_destroy(&h->slots[i].changed);
		pthread_mutex_destroy(&h->slots[i].mutex);
	}
	free(h);
}

// FNV-1a.
static struct slot *slot_of(struct hub *h, const char *topic)
{
	uint32_t hash = 2166136261U;
	for (; *topic; topic++)
		hash = (hash ^ (unsigned char)*topic) * 16777619U;
	return &h->slots[(hash ^ hash >> 16) % SLOTS];
}

uint64_t hub_count(struct hub *h, const char *topic)
{
	struct slot *s = slot_of(h, topic);
	pthread_mutex_lock(&s->mutex);
	uint64_t count = s->count;
	pthread_mutex_unlock(&s->mutex);
	return count;
}

bool hub_wait(struct hub *h, const char *topic, uint64_t seen, int64_t ms)
{
	struct slot *s = slot_of(h, topic);
	int64_t until = now_ms() + (ms > 0 ? ms : 0);
	struct timespec end = {until / 1000, until % 1000 * 1000000};
	int rc = 0;
	pthread_mutex_lock(&s->mutex);
	while (s->count == seen && !atomic_load(&h->stopped) && rc == 0)
		rc = pthread_cond_timedwait(&s->changed, &s->mutex, &end);
	bool changed = s->count != seen && !atomic_load(&h->stopped);
	pthread_mutex_unlock(&s->mutex);
	return changed;
}

static void bump(struct slot *s)
{
	pthread_mutex_lock(&s->mutex);
	s->count++;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->mutex);
}

static void bump_all(struct hub *h)
{
	for (size_t i = 0; i < SLOTS; i++)
		bump(&h->slots[i]);
}

void hub_notify(struct hub *h, const char *topic)
{
	if (topic)
		bump(slot_of(h, topic));
	else
		bump_all(h);
}

void hub_stop(struct hub *h)
{
	atomic_store(&h->stopped, true);
	bump_all(h);
}

bool hub_is_stopped(struct hub *h)
{
	return atomic_load(&h->stopped);
}
