// SPDX-License-Identifier: Apache-2.0
//
// Who waits for what: a waiter remembers the count of a topic, looks at the tables, and sleeps
// until the count is another. Topics share a fixed number of counters by hash, so a waiter may wake
// for nothing, and never misses anything.
#pragma once

#include "base/memory.h"

#include <stdbool.h>
#include <stdint.h>

struct hub;
struct hub *hub_new(void);
void hub_free(struct hub *h); // nobody may wait any more; NULL is fine

uint64_t hub_count(struct hub *h, const char *topic);
// Until the count is not `seen`, at most `ms`. false: it was the time, or hub_stop().
bool hub_wait(struct hub *h, const char *topic, uint64_t seen, int64_t ms);
void hub_notify(struct hub *h, const char *topic); // NULL: all topics
// Everybody stops waiting, now and from now on (shutdown).
void hub_stop(struct hub *h);
bool hub_is_stopped(struct hub *h);
