// SPDX-License-Identifier: Apache-2.0
//
// The SHA-256 of a file that grows: computed behind the writer, in a thread once it is worth one,
// from what the page cache holds. A resumed file is hashed from its start the same way.
#pragma once

#include "base/error.h"
#include "base/sha256.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct download_hash {
	int fd; // not owned; read by pread(2)
	struct sha256 *hash;
	bool running;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	uint64_t available; // bytes that may be read; under the mutex, as the next two
	bool over;	    // no more will come
	int sys;	    // errno of a read that failed
	uint64_t hashed;    // the thread's while it runs
	uint64_t told;	    // of `available`, when the thread was last woken
};

void download_hash_init(struct download_hash *h, int fd);
void download_hash_release(struct download_hash *h); // fine on a zeroed one
// The file is begun again.
void download_hash_reset(struct download_hash *h);
void download_hash_advance(struct download_hash *h, uint64_t available);
// The digest of the first `size` bytes. download_hash_reset() before anything else.
int download_hash_finish(
	struct download_hash *h, uint64_t size, char hex[SHA256_HEX_SIZE], struct error *err);
