// SPDX-License-Identifier: Apache-2.0
//
// A few connections for many threads: who comes first gets the next one that is given back. Each
// waiter sleeps on a condition of its own, so one is woken for one connection, however many there
// are.
#pragma once

#include "base/error.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { POOL_MAX = 8 };

struct pool_waiter;
struct pool {
	pthread_mutex_t mutex;
	void *free[POOL_MAX];
	size_t count;
	struct pool_waiter *first, **last;
};
void pool_init(struct pool *p);
void pool_release(struct pool *p); // nobody waits

// NULL and ERROR_UNAVAILABLE when there was none until `deadline` (now_ms()).
void *pool_take(struct pool *p, int64_t deadline, struct error *err);
void pool_give(struct pool *p, void *item);
bool pool_is_waited_for(struct pool *p);
