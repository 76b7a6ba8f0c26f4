// SPDX-License-Identifier: Apache-2.0
#include "controller/files/blobs_hasher.h"

#include <pthread.h>

enum { BLOCKS = 4, STACK = 128 * 1024 };

struct blob_hasher {
	struct sha256 *hash;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t given, hashed; // blocks, ever
	bool over;
	size_t sizes[BLOCKS];
	char *blocks; // BLOCKS of them
};

static char *block_of(const struct blob_hasher *h, size_t number)
{
	return h->blocks + number % BLOCKS * BLOB_BLOCK;
}

static void *hasher_main(void *data)
{
	struct blob_hasher *h = data;
	pthread_mutex_lock(&h->lock);
	for (;;) {
		while (h->hashed == h->given && !h->over)
			pthread_cond_wait(&h->changed, &h->lock);
		if (h->hashed == h->given)
			break;
		size_t number = h->hashed;
		pthread_mutex_unlock(&h->lock);
		if (h->hash)
			sha256_update(h->hash, block_of(h, number), h->sizes[number % BLOCKS]);
		pthread_mutex_lock(&h->lock);
		h->hashed++;
		pthread_cond_signal(&h->changed);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

static int start(struct blob_hasher *h)
{
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, STACK);
	int rc = pthread_create(&h->thread, &small, hasher_main, h);
	pthread_attr_destroy(&small);
	return rc;
}

static void hasher_free(struct blob_hasher *h)
{
	pthread_cond_destroy(&h->changed);
	pthread_mutex_destroy(&h->lock);
	free(h->blocks);
	free(h);
}

struct blob_hasher *blob_hasher_new(struct sha256 *hash)
{
	struct blob_hasher *h = xcalloc(1, sizeof(*h));
	h->hash = hash;
	h->blocks = xmalloc((size_t)BLOCKS * BLOB_BLOCK);
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->changed, NULL);
	if (start(h) == 0)
		return h;
	hasher_free(h);
	return NULL;
}

char *blob_hasher_block(struct blob_hasher *h)
{
	pthread_mutex_lock(&h->lock);
	while (h->given - h->hashed == BLOCKS)
		pthread_cond_wait(&h->changed, &h->lock);
	pthread_mutex_unlock(&h->lock);
	return block_of(h, h->given);
}

void blob_hasher_give(struct blob_hasher *h, size_t size)
{
	pthread_mutex_lock(&h->lock);
	h->sizes[h->given++ % BLOCKS] = size;
	pthread_cond_signal(&h->changed);
	pthread_mutex_unlock(&h->lock);
}

struct sha256 *blob_hasher_end(struct blob_hasher *h)
{
	pthread_mutex_lock(&h->lock);
	h->over = true;
	pthread_cond_signal(&h->changed);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
	struct sha256 *hash = h->hash;
	hasher_free(h);
	return hash;
}
