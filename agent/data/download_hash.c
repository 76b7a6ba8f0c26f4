// SPDX-License-Identifier: Apache-2.0
#include "agent/data/download_hash.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum {
	STEP = 256 * 1024,
	THREAD_BYTES = 1024 * 1024, // below, a thread costs more than it gives
};

void download_hash_init(struct download_hash *h, int fd)
{
	*h = (struct download_hash){.fd = fd, .hash = sha256_new()};
	pthread_mutex_init(&h->mutex, NULL);
	pthread_cond_init(&h->changed, NULL);
}

// Hash up to `end`. Returns an errno, 0 if all is well.
static int hash_to(struct download_hash *h, uint64_t end, char *buffer)
{
	while (h->hashed < end) {
		size_t want = end - h->hashed < STEP ? (size_t)(end - h->hashed) : STEP;
		ssize_t n = pread(h->fd, buffer, want, (off_t)h->hashed);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? errno : EIO;
		sha256_update(h->hash, buffer, (size_t)n);
		h->hashed += (uint64_t)n;
	}
	return 0;
}

static void *follow(void *data)
{
	struct download_hash *h = data;
	cleanup_free char *buffer = xmalloc(STEP);
	pthread_mutex_lock(&h->mutex);
	while (!h->sys) {
		while (h->available == h->hashed && !h->over)
			pthread_cond_wait(&h->changed, &h->mutex);
		if (h->over)
			break;
		uint64_t end = h->available;
		pthread_mutex_unlock(&h->mutex);
		int sys = hash_to(h, end, buffer);
		pthread_mutex_lock(&h->mutex);
		h->sys = sys;
	}
	pthread_mutex_unlock(&h->mutex);
	return NULL;
}

// Signals are for the threads of our callers. Without a thread the hash is made at the end.
static void start_thread(struct download_hash *h)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	h->running = pthread_create(&h->thread, NULL, follow, h) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void stop_thread(struct download_hash *h)
{
	if (!h->running)
		return;
	pthread_mutex_lock(&h->mutex);
	h->over = true;
	pthread_cond_signal(&h->changed);
	pthread_mutex_unlock(&h->mutex);
	pthread_join(h->thread, NULL);
	h->running = false;
	h->over = false;
}

void download_hash_release(struct download_hash *h)
{
	if (!h->hash)
		return;
	stop_thread(h);
	sha256_free(h->hash);
	pthread_mutex_destroy(&h->mutex);
	pthread_cond_destroy(&h->changed);
	h->hash = NULL;
}

void download_hash_reset(struct download_hash *h)
{
	stop_thread(h);
	sha256_free(h->hash);
	h->hash = sha256_new();
	h->available = h->hashed = h->told = 0;
	h->sys = 0;
}

void download_hash_advance(struct download_hash *h, uint64_t available)
{
	if (available < THREAD_BYTES || available - h->told < STEP)
		return;
	h->told = available;
	pthread_mutex_lock(&h->mutex);
	h->available = available;
	pthread_cond_signal(&h->changed);
	pthread_mutex_unlock(&h->mutex);
	if (!h->running)
		start_thread(h);
}

int download_hash_finish(
	struct download_hash *h, uint64_t size, char hex[SHA256_HEX_SIZE], struct error *err)
{
	uint8_t digest[SHA256_SIZE];
	cleanup_free char *buffer = xmalloc(STEP);
	stop_thread(h);
	if (!h->sys)
		h->sys = hash_to(h, size, buffer);
	if (h->sys)
		return error_set_errno(err, h->sys, "read what was downloaded");
	sha256_final(h->hash, digest);
	sha256_hex(digest, hex);
	return 0;
}
