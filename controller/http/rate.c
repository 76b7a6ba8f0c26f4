// SPDX-License-Identifier: Apache-2.0
#include "controller/http/rate.h"

#include "base/text.h"

#include <pthread.h>
#include <stdio.h>

// A key has its place in one of many short rows, so that a look at a few entries is all it takes.
// Whoever is pushed out of a row comes back with a full bucket: 32,768 busy tokens are more than
// one controller has.
enum { ROWS = 4096, ROW = 8, BURST_SECONDS = 4, KEY_SIZE = 64 };

struct entry {
	char key[KEY_SIZE]; // "": free
	int64_t time;	    // of `level`
	double level;
};
struct rates {
	pthread_mutex_t lock;
	struct entry *rows[ROWS]; // NULL until somebody is there
};

struct rates *rates_new(void)
{
	struct rates *r = xcalloc(1, sizeof(*r));
	pthread_mutex_init(&r->lock, NULL);
	return r;
}

void rates_free(struct rates *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < ROWS; i++)
		free(r->rows[i]);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static uint32_t hash_of(const char *key) // FNV-1a: keys are ids that we made
{
	uint32_t h = 2166136261U;
	for (; *key; key++)
		h = (h ^ (unsigned char)*key) * 16777619U;
	return h;
}

static struct entry *find(struct rates *r, const char *key, double burst, int64_t now)
{
	struct entry **row = &r->rows[hash_of(key) % ROWS];
	if (!*row)
		*row = xcalloc(ROW, sizeof(**row));
	struct entry *oldest = *row;
	for (struct entry *e = *row; e < *row + ROW; e++) {
		if (strncmp(e->key, key, KEY_SIZE - 1) == 0)
			return e;
		if (e->time < oldest->time)
			oldest = e;
	}
	*oldest = (struct entry){.time = now, .level = burst};
	snprintf(oldest->key, sizeof(oldest->key), "%s", key);
	return oldest;
}

int64_t rates_take(struct rates *r, const char *key, double rate, int64_t now)
{
	double burst = rate * BURST_SECONDS;
	int64_t wait = 0;
	pthread_mutex_lock(&r->lock);
	struct entry *e = find(r, key, burst, now);
	if (now > e->time) {
		e->level += (double)(now - e->time) * rate / 1000;
		e->time = now;
	}
	if (e->level > burst)
		e->level = burst;
	if (e->level >= 1)
		e->level -= 1;
	else
		wait = (int64_t)((1 - e->level) * 1000 / rate) + 1;
	pthread_mutex_unlock(&r->lock);
	return wait;
}
