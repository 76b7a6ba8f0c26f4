// SPDX-License-Identifier: Apache-2.0
//
// Its own thread, so that a store that is away delays nothing else. Several controllers may do the
// same: what is removed twice is fine.
#include "base/log.h"
#include "base/time.h"
#include "controller/files/blobs_s3.h"
#include "controller/files/strays.h"

#include <time.h>

enum { EVERY_MS = 5000, BATCH = 100 };

static int remove_one(struct s3_store *s, const struct stray *t, struct error *err)
{
	char key[OBJECT_KEY_SIZE];
	object_key(t->object, key);
	if (t->upload && s3_upload_abort(s->s3, key, t->upload, err) < 0)
		return -1;
	return s3_delete(s->s3, key, err);
}

static bool is_stopping(struct s3_store *s)
{
	pthread_mutex_lock(&s->lock);
	bool stopping = s->stopping;
	pthread_mutex_unlock(&s->lock);
	return stopping;
}

// How many there were; -1.
static int sweep(struct s3_store *s, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct stray *strays;
	size_t count, done = 0;
	if (stray_due(s->db, &a, BATCH, &strays, &count, err) < 0)
		return -1;
	while (done < count && !is_stopping(s) && remove_one(s, &strays[done], err) == 0)
		done++;
	struct error second;
	if (stray_forget(s->db, strays, done, &second) < 0) {
		*err = second;
		return -1;
	}
	return done == count || is_stopping(s) ? (int)done : -1;
}

static bool wait_for_next(struct s3_store *s)
{
	int64_t until = now_ms() + EVERY_MS;
	struct timespec end = {until / 1000, until % 1000 * 1000000};
	int rc = 0;
	pthread_mutex_lock(&s->lock);
	while (!s->stopping && rc == 0)
		rc = pthread_cond_timedwait(&s->changed, &s->lock, &end);
	bool stopping = s->stopping;
	pthread_mutex_unlock(&s->lock);
	return !stopping;
}

static void *keep_sweeping(void *data)
{
	struct s3_store *s = data;
	struct error err;
	bool failed = false;
	do {
		int rc;
		do
			rc = sweep(s, &err);
		while (rc == BATCH && !is_stopping(s));
		if (rc < 0 && !failed)
			log_error("removing files that nobody needs: %s", err.text);
		failed = rc < 0;
	} while (wait_for_next(s));
	return NULL;
}

int s3_store_sweep_start(struct s3_store *s, struct error *err)
{
	int rc = pthread_create(&s->sweeper, NULL, keep_sweeping, s);
	return rc ? error_set_errno(err, rc, "start a thread") : 0;
}
