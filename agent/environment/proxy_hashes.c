// SPDX-License-Identifier: Apache-2.0
//
// Open addressing by the SHA-256 of the address: whoever writes pages cannot choose what collides.
#include "agent/environment/proxy_internal.h"
#include "base/sha256.h"
#include "base/text.h"

#include <string.h>

enum { FIRST = 1024, MOST = 1 << 20 };

struct slot {
	uint8_t key[16], sha256[SHA256_SIZE];
	bool used, unsure;
};

struct proxy_hashes {
	struct slot *slots;
	size_t count, capacity;
	pthread_mutex_t mutex;
};

struct proxy_hashes *proxy_hashes_new(void)
{
	struct proxy_hashes *h = xcalloc(1, sizeof(*h));
	h->capacity = FIRST;
	h->slots = xcalloc(h->capacity, sizeof(*h->slots));
	pthread_mutex_init(&h->mutex, NULL);
	return h;
}

void proxy_hashes_free(struct proxy_hashes *h)
{
	if (!h)
		return;
	free(h->slots);
	pthread_mutex_destroy(&h->mutex);
	free(h);
}

static struct slot *find(struct slot *slots, size_t capacity, const uint8_t key[16])
{
	uint64_t start;
	memcpy(&start, key, sizeof(start));
	for (size_t i = (size_t)start & (capacity - 1);; i = (i + 1) & (capacity - 1))
		if (!slots[i].used || memcmp(slots[i].key, key, 16) == 0)
			return &slots[i];
}

static void grow(struct proxy_hashes *h)
{
	size_t capacity = h->capacity * 2;
	struct slot *slots = xcalloc(capacity, sizeof(*slots));
	for (size_t i = 0; i < h->capacity; i++)
		if (h->slots[i].used)
			*find(slots, capacity, h->slots[i].key) = h->slots[i];
	free(h->slots);
	h->slots = slots;
	h->capacity = capacity;
}

static void key_of(const char *url, uint8_t key[SHA256_SIZE])
{
	sha256_of(url, strcspn(url, "#"), key);
}

static unsigned digit(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

void proxy_hashes_add(struct proxy_hashes *h, const char *url, const char *sha256)
{
	uint8_t key[SHA256_SIZE], value[SHA256_SIZE];
	key_of(url, key);
	for (size_t i = 0; i < SHA256_SIZE; i++)
		value[i] = (uint8_t)(digit(sha256[2 * i]) << 4 | digit(sha256[2 * i + 1]));
	pthread_mutex_lock(&h->mutex);
	struct slot *s = find(h->slots, h->capacity, key);
	if (s->used) {
		s->unsure = s->unsure || memcmp(s->sha256, value, SHA256_SIZE) != 0;
	} else if (h->count < MOST) {
		memcpy(s->key, key, sizeof(s->key));
		memcpy(s->sha256, value, SHA256_SIZE);
		s->used = true;
		if (++h->count > h->capacity / 2)
			grow(h);
	}
	pthread_mutex_unlock(&h->mutex);
}

bool proxy_hashes_find(struct proxy_hashes *h, const char *url, char sha256[65])
{
	uint8_t key[SHA256_SIZE];
	key_of(url, key);
	pthread_mutex_lock(&h->mutex);
	const struct slot *s = find(h->slots, h->capacity, key);
	bool found = s->used && !s->unsure;
	if (found)
		sha256_hex(s->sha256, sha256);
	pthread_mutex_unlock(&h->mutex);
	return found;
}
