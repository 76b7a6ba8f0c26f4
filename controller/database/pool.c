// SPDX-License-Identifier: Apache-2.0
#include "controller/database/pool.h"

#include <assert.h>
#include <time.h>

struct pool_waiter {
	pthread_cond_t woken;
	void *item;
	struct pool_waiter *next;
};

void pool_init(struct pool *p)
{
	*p = (struct pool){0};
	p->last = &p->first;
	pthread_mutex_init(&p->mutex, NULL);
}

void pool_release(struct pool *p)
{
	assert(!p->first);
	pthread_mutex_destroy(&p->mutex);
}

static void waiter_init(struct pool_waiter *w)
{
	pthread_condattr_t monotonic;
	*w = (struct pool_waiter){0};
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&w->woken, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

static void leave_queue(struct pool *p, struct pool_waiter *w)
{
	struct pool_waiter **at = &p->first;
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	if (!*at)
		p->last = at;
}

static void *wait_in_queue(struct pool *p, int64_t deadline)
{
	struct timespec end = {deadline / 1000, deadline % 1000 * 1000000};
	struct pool_waiter w;
	int rc = 0;
	waiter_init(&w);
	*p->last = &w;
	p->last = &w.next;
	while (!w.item && rc == 0)
		rc = pthread_cond_timedwait(&w.woken, &p->mutex, &end);
	if (!w.item)
		leave_queue(p, &w);
	pthread_cond_destroy(&w.woken);
	return w.item;
}

void *pool_take(struct pool *p, int64_t deadline, struct error *err)
{
	pthread_mutex_lock(&p->mutex);
	void *item = p->count ? p->free[--p->count] : wait_in_queue(p, deadline);
	pthread_mutex_unlock(&p->mutex);
	if (!item)
		error_set(err, ERROR_UNAVAILABLE, "the database has too much to do");
	return item;
}

void pool_give(struct pool *p, void *item)
{
	pthread_mutex_lock(&p->mutex);
	struct pool_waiter *w = p->first;
	if (w) {
		p->first = w->next;
		if (!p->first)
			p->last = &p->first;
		w->item = item;
		pthread_cond_signal(&w->woken);
	} else {
		assert(p->count < POOL_MAX);
		p->free[p->count++] = item;
	}
	pthread_mutex_unlock(&p->mutex);
}

bool pool_is_waited_for(struct pool *p)
{
	pthread_mutex_lock(&p->mutex);
	bool waited_for = p->first != NULL;
	pthread_mutex_unlock(&p->mutex);
	return waited_for;
}
