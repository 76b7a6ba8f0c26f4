// SPDX-License-Identifier: Apache-2.0
//
// Connections to servers that may be used again, by one exchange at a time each.
#pragma once

#include "agent/data/download_exchange.h"

#include <pthread.h>

struct download_pool {
	pthread_mutex_t mutex;
	struct download_connections *idle;
};

#define DOWNLOAD_POOL_INIT ((struct download_pool){.mutex = PTHREAD_MUTEX_INITIALIZER})

void download_pool_release(struct download_pool *p);
// Loads libcurl, before a process gives up the right to.
int download_pool_prepare(struct download_pool *p, struct error *err);
// download_exchange_run() with connections of the pool. Any thread.
int download_pool_exchange(struct download_pool *p, struct download_exchange *x, struct error *err);
