// SPDX-License-Identifier: Apache-2.0
//
// How often somebody may ask: a bucket of tokens per key, in a table of fixed size. Safe for
// threads.
#pragma once

#include "base/memory.h"

#include <stdint.h>

struct rates;
struct rates *rates_new(void);
void rates_free(struct rates *r);

// One more request of `key` at `now` (monotonic ms), which has `rate` a second and bursts of four
// seconds' worth. 0: it may; else after how many ms it may ask again. When the table is full,
// whoever was longest away is forgotten.
int64_t rates_take(struct rates *r, const char *key, double rate, int64_t now);

DEFINE_CLEANUP(rates_free, struct rates *, rates_free)
#define cleanup_rates __attribute__((cleanup(rates_freep)))
