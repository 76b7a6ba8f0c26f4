// SPDX-License-Identifier: Apache-2.0
//
// Rounds of results while the run goes on, in a thread of their own: a large file takes minutes,
// and what the script prints meanwhile is not to wait for it. The last round, when the run has
// ended, is the attempt's own (upload_round()).
#pragma once

#include "agent/link/link.h"

struct results;

// Nothing runs yet. The attempt outlives it. ERROR_INVALID when the controller's address is none.
struct results *results_new(const struct attempt *a, struct error *err);
// Begin a round over an attempt's folder, if none is under way and the last one was long enough
// ago.
void results_begin(struct results *r, int attempt_fd);
// Give up a round that is under way; what has arrived of it stays, and the next goes on from there.
void results_stop(struct results *r);
void results_free(struct results *r);
