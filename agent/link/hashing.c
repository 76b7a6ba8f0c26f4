// SPDX-License-Identifier: Apache-2.0
#include "agent/link/hashing.h"

#include "base/file.h"

#include <pthread.h>
#include <stdatomic.h>

enum { STEP = 8 * 1024 * 1024 }; // so often it looks whether to stop

struct hashing {
	int fd;
	const char *name;
	uint64_t size;
	pthread_t thread;
	bool runs;
	atomic_bool stop;
	int rc;
	struct error error;
	char hex[SHA256_HEX_SIZE];
};

static void *hashing_main(void *data)
{
	struct hashing *h = data;
	uint8_t digest[SHA256_SIZE];
	cleanup_sha256 struct sha256 *hash = sha256_new();
	for (uint64_t at = 0, end; at < h->size && h->rc == 0 && !h->stop; at = end) {
		end = h->size - at < STEP ? h->size : at + STEP;
		h->rc = file_hash(h->fd, h->name, at, end, hash, &h->error);
	}
	sha256_final(hash, digest);
	sha256_hex(digest, h->hex);
	return NULL;
}

// Without a thread it is done here and now.
struct hashing *hashing_start(int fd, const char *name, uint64_t size)
{
	struct hashing *h = xcalloc(1, sizeof(*h));
	h->fd = fd;
	h->name = name;
	h->size = size;
	h->runs = pthread_create(&h->thread, NULL, hashing_main, h) == 0;
	if (!h->runs)
		hashing_main(h);
	return h;
}

static void join(struct hashing *h)
{
	if (h->runs)
		pthread_join(h->thread, NULL);
	h->runs = false;
}

const char *hashing_wait(struct hashing *h, struct error *err)
{
	join(h);
	if (h->rc == 0)
		return h->hex;
	*err = h->error;
	return NULL;
}

void hashing_free(struct hashing *h)
{
	if (!h)
		return;
	h->stop = true;
	join(h);
	free(h);
}
