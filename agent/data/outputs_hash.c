// SPDX-License-Identifier: Apache-2.0
#include "agent/data/outputs_hash.h"

#include "agent/data/outputs_sha.h"
#include "base/memory.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

struct slot {
	const void *data;
	size_t size;
	uint8_t digest[SHA256_SIZE];
};

struct outputs_hasher {
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct slot slots[OUTPUTS_SLOTS];
	unsigned put, hashed, got; // chunks so far
	struct outputs_sha whole;  // the thread's between put and get, else the caller's
	struct sha256 *alone;	   // of OUTPUTS_HASH_WHOLE, which is quicker than both
	enum outputs_hash wanted;
	bool quit;
};

static void *hash_all(void *data)
{
	struct outputs_hasher *h = data;
	pthread_mutex_lock(&h->mutex);
	for (;;) {
		while (h->hashed == h->put && !h->quit)
			pthread_cond_wait(&h->changed, &h->mutex);
		if (h->quit)
			break;
		struct slot *s = &h->slots[h->hashed % OUTPUTS_SLOTS];
		pthread_mutex_unlock(&h->mutex);
		if (h->wanted == OUTPUTS_HASH_WHOLE)
			sha256_update(h->alone, s->data, s->size);
		else if (h->wanted == OUTPUTS_HASH_BOTH)
			outputs_sha_chunk(&h->whole, s->data, s->size, s->digest);
		else
			outputs_sha_of(s->data, s->size, s->digest);
		pthread_mutex_lock(&h->mutex);
		h->hashed++;
		pthread_cond_broadcast(&h->changed);
	}
	pthread_mutex_unlock(&h->mutex);
	return NULL;
}

struct outputs_hasher *outputs_hasher_new(struct error *err)
{
	struct outputs_hasher *h = xcalloc(1, sizeof(*h));
	pthread_mutex_init(&h->mutex, NULL);
	pthread_cond_init(&h->changed, NULL);
	int rc = pthread_create(&h->thread, NULL, hash_all, h);
	if (rc == 0)
		return h;
	free(h);
	error_set_errno(err, rc, "start a thread");
	return NULL;
}

void outputs_hasher_free(struct outputs_hasher *h)
{
	if (!h)
		return;
	pthread_mutex_lock(&h->mutex);
	h->quit = true;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->mutex);
	pthread_join(h->thread, NULL);
	outputs_sha_release(&h->whole);
	sha256_free(h->alone);
	free(h);
}

void outputs_hasher_begin(struct outputs_hasher *h, enum outputs_hash wanted)
{
	uint8_t ignored[SHA256_SIZE];
	while (h->got < h->put) // of a file that was given up
		outputs_hasher_get(h, ignored);
	outputs_sha_release(&h->whole);
	sha256_free(steal(h->alone));
	h->wanted = wanted;
	if (wanted == OUTPUTS_HASH_WHOLE)
		h->alone = sha256_new();
	if (wanted == OUTPUTS_HASH_BOTH)
		outputs_sha_init(&h->whole);
}

void outputs_hasher_put(struct outputs_hasher *h, const void *data, size_t size)
{
	pthread_mutex_lock(&h->mutex);
	assert(h->put - h->got < OUTPUTS_SLOTS);
	struct slot *s = &h->slots[h->put % OUTPUTS_SLOTS];
	s->data = data;
	s->size = size;
	h->put++;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->mutex);
}

void outputs_hasher_get(struct outputs_hasher *h, uint8_t digest[SHA256_SIZE])
{
	pthread_mutex_lock(&h->mutex);
	assert(h->got < h->put);
	while (h->hashed == h->got)
		pthread_cond_wait(&h->changed, &h->mutex);
	memcpy(digest, h->slots[h->got % OUTPUTS_SLOTS].digest, SHA256_SIZE);
	h->got++;
	pthread_mutex_unlock(&h->mutex);
}

void outputs_hasher_end(struct outputs_hasher *h, uint8_t digest[SHA256_SIZE])
{
	assert(h->got == h->put && h->wanted != OUTPUTS_HASH_CHUNKS);
	if (h->wanted == OUTPUTS_HASH_WHOLE)
		sha256_final(h->alone, digest);
	else
		outputs_sha_final(&h->whole, digest);
	h->wanted = OUTPUTS_HASH_CHUNKS;
}
