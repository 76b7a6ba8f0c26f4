// SPDX-License-Identifier: Apache-2.0
#include "controller/files/block_cache.h"

#include "base/memory.h"
#include "base/text.h"
#include "controller/files/blobs.h"

#include <pthread.h>
#include <stdio.h>

struct block_cache {
	pthread_mutex_t lock;
	uint64_t uses;
	struct block {
		char blob[BLOB_ID_SIZE];
		uint64_t start, used; // used 0: free
		size_t size;
		char *data;
	} blocks[BLOCK_CACHE_BLOCKS];
};

struct block_cache *block_cache_new(void)
{
	struct block_cache *c = xcalloc(1, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	return c;
}

void block_cache_free(struct block_cache *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < BLOCK_CACHE_BLOCKS; i++)
		free(c->blocks[i].data);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static struct block *find(struct block_cache *c, const char *blob, uint64_t offset)
{
	for (size_t i = 0; i < BLOCK_CACHE_BLOCKS; i++) {
		struct block *b = &c->blocks[i];
		if (b->used && offset >= b->start && offset - b->start < b->size &&
			streq(b->blob, blob))
			return b;
	}
	return NULL;
}

size_t block_cache_get(
	struct block_cache *c, const char *blob, uint64_t offset, void *data, size_t size)
{
	size_t n = 0;
	pthread_mutex_lock(&c->lock);
	struct block *b = find(c, blob, offset);
	if (b) {
		size_t skipped = (size_t)(offset - b->start), left = b->size - skipped;
		n = left < size ? left : size;
		memcpy(data, b->data + skipped, n);
		b->used = ++c->uses;
	}
	pthread_mutex_unlock(&c->lock);
	return n;
}

bool block_cache_has(struct block_cache *c, const char *blob, uint64_t offset)
{
	pthread_mutex_lock(&c->lock);
	bool has = find(c, blob, offset) != NULL;
	pthread_mutex_unlock(&c->lock);
	return has;
}

void block_cache_put(
	struct block_cache *c, const char *blob, uint64_t start, const void *data, size_t size)
{
	char *copy = xmemdup(data, size);
	pthread_mutex_lock(&c->lock);
	struct block *place = find(c, blob, start);
	for (size_t i = 0; !place && i < BLOCK_CACHE_BLOCKS; i++)
		if (!c->blocks[i].used)
			place = &c->blocks[i];
	if (!place) {
		place = &c->blocks[0];
		for (size_t i = 1; i < BLOCK_CACHE_BLOCKS; i++)
			if (c->blocks[i].used < place->used)
				place = &c->blocks[i];
	}
	free(place->data);
	*place = (struct block){.start = start, .used = ++c->uses, .size = size, .data = copy};
	snprintf(place->blob, sizeof(place->blob), "%s", blob);
	pthread_mutex_unlock(&c->lock);
}
