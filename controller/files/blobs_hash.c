// SPDX-License-Identifier: Apache-2.0
#include "controller/files/blobs_hash.h"

#include "base/text.h"
#include "controller/files/blobs.h"

#include <pthread.h>
#include <stdio.h>

enum { KEPT = 1024 };

struct blob_hashes {
	pthread_mutex_t lock;
	uint64_t uses;
	struct kept {
		char id[BLOB_ID_SIZE]; // "": free
		uint64_t size, used;
		struct sha256 *hash;
	} kept[KEPT];
};

struct blob_hashes *blob_hashes_new(void)
{
	struct blob_hashes *t = xcalloc(1, sizeof(*t));
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

void blob_hashes_free(struct blob_hashes *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < KEPT; i++)
		sha256_free(t->kept[i].hash);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

struct sha256 *blob_hashes_take(struct blob_hashes *t, const char *id, uint64_t size)
{
	struct sha256 *found = NULL;
	if (size == 0)
		return sha256_new();
	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < KEPT; i++) {
		struct kept *k = &t->kept[i];
		if (k->hash && k->size == size && streq(k->id, id)) {
			found = steal(k->hash);
			*k = (struct kept){0};
		}
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}

void blob_hashes_put(struct blob_hashes *t, const char *id, uint64_t size, struct sha256 *h)
{
	pthread_mutex_lock(&t->lock);
	struct kept *place = &t->kept[0];
	for (size_t i = 0; i < KEPT && place->hash; i++)
		if (!t->kept[i].hash || t->kept[i].used < place->used)
			place = &t->kept[i];
	sha256_free(place->hash);
	*place = (struct kept){.size = size, .used = ++t->uses, .hash = h};
	snprintf(place->id, sizeof(place->id), "%s", id);
	pthread_mutex_unlock(&t->lock);
}
