// SPDX-License-Identifier: Apache-2.0
#include "agent/link/hashing.h"

#include "base/sha256.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { PIECE = 128 * 1024 };

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

static int read_all(struct hashing *h, struct sha256 *hash)
{
	cleanup_free char *piece = xmalloc(PIECE);
	for (uint64_t at = 0; at < h->size;) {
		size_t want = h->size - at < PIECE ? (size_t)(h->size - at) : PIECE;
		ssize_t n = h->stop ? 0 : pread(h->fd, piece, want, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(&h->error, errno, "read %s", h->name);
		if (n == 0)
			return error_set(
				&h->error, ERROR_INTEGRITY, "%s shrank while it was read", h->name);
		sha256_update(hash, piece, (size_t)n);
		at += (uint64_t)n;
	}
	return 0;
}

static void *hashing_main(void *data)
{
	struct hashing *h = data;
	uint8_t digest[SHA256_SIZE];
	cleanup_sha256 struct sha256 *hash = sha256_new();
	h->rc = read_all(h, hash);
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
