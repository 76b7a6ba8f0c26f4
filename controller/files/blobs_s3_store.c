// SPDX-License-Identifier: Apache-2.0
//
// What the parts of the store of objects share: its beginning and end, memory for uploads, health.
#include "controller/files/blobs_s3.h"

#include "base/time.h"

#include <time.h>

enum {
	SLOTS = 32, // times OBJECT_PART is the memory of all uploads
	SLOT_WAIT_MS = 10 * 1000,
	PING_EVERY_MS = 2000,
};
static const char marker[] = "stoker-controller";

// ---- slots

int s3_store_take_slot(struct s3_store *s, struct error *err)
{
	int64_t until = now_ms() + SLOT_WAIT_MS;
	struct timespec end = {until / 1000, until % 1000 * 1000000};
	int rc = 0;
	pthread_mutex_lock(&s->lock);
	while (s->slots == SLOTS && rc == 0)
		rc = pthread_cond_timedwait(&s->changed, &s->lock, &end);
	bool taken = s->slots < SLOTS;
	s->slots += taken;
	pthread_mutex_unlock(&s->lock);
	return taken ? 0
		     : error_set(err, ERROR_UNAVAILABLE, "files: %d uploads are under way already",
			       SLOTS);
}

void s3_store_give_slot(struct s3_store *s)
{
	pthread_mutex_lock(&s->lock);
	s->slots--;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

// ---- beginning, end, health

// Anybody may ask how we are, so the store is not asked each time.
int s3_store_ping(struct blob_store *store, struct error *err)
{
	struct s3_store *s = (struct s3_store *)store;
	pthread_mutex_lock(&s->lock);
	bool known = s->pinged && now_ms() - s->pinged < PING_EVERY_MS;
	struct error e = s->ping_error;
	pthread_mutex_unlock(&s->lock);
	if (!known) {
		e = (struct error){0};
		s3_ping(s->s3, marker, &e);
		pthread_mutex_lock(&s->lock);
		s->pinged = now_ms();
		s->ping_error = e;
		pthread_mutex_unlock(&s->lock);
	}
	if (e.kind != ERROR_NONE)
		*err = e;
	return e.kind != ERROR_NONE ? -1 : 0;
}

static void release(struct s3_store *s)
{
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	block_cache_free(s->cache);
	s3_close(s->s3);
	free(s);
}

void s3_store_free(struct blob_store *store)
{
	struct s3_store *s = (struct s3_store *)store;
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->sweeper, NULL);
	release(s);
}

// That we may write there is found out now and not with the first file.
static int check(struct s3 *s3, struct error *err)
{
	static const char text[] = "Files of the runs of stoker-controller(1), in pieces that its "
				   "database knows.\n";
	uint64_t size;
	if (s3_size(s3, marker, &size, err) == 0)
		return 0;
	return err->kind == ERROR_NOT_FOUND ? s3_put(s3, marker, text, sizeof(text) - 1, err) : -1;
}

static struct s3 *open_s3(const char *where, struct error *err)
{
	struct s3_address a;
	struct s3 *s3 = s3_address_parse(&a, where, err) < 0 ? NULL : s3_open(&a, err);
	s3_address_release(&a);
	if (!s3 || check(s3, err) == 0)
		return s3;
	s3_close(s3);
	return NULL;
}

struct s3_store *s3_store_open(const char *where, struct database *db, struct error *err)
{
	pthread_condattr_t monotonic;
	struct s3 *s3 = open_s3(where, err);
	if (!s3)
		return NULL;
	struct s3_store *s = xcalloc(1, sizeof(*s));
	*s = (struct s3_store){.s3 = s3, .db = db, .cache = block_cache_new()};
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&s->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (s3_store_sweep_start(s, err) == 0)
		return s;
	release(s);
	return NULL;
}
