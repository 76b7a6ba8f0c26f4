// SPDX-License-Identifier: Apache-2.0
//
// What the server counts, for GET /metrics. Safe for threads.
#pragma once

#include "base/buffer.h"

#include <stdint.h>

struct metrics;
struct metrics *metrics_new(void);
void metrics_free(struct metrics *m);

void metrics_request(struct metrics *m, int status, int64_t ms, uint64_t received);
void metrics_sent(struct metrics *m, uint64_t bytes);
void metrics_connections(struct metrics *m, int change);
// A counter of that name, made when it is new; the first 64 names only.
void metrics_count(struct metrics *m, const char *name, double value);
void metrics_print(struct metrics *m, struct buffer *out); // text format 0.0.4
