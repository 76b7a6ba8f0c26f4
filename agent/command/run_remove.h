// SPDX-License-Identifier: Apache-2.0
//
// Removing runs that have ended.
#pragma once

#include "agent/job/run.h"

#include <stdbool.h>
#include <stdint.h>

struct run_prune {
	uint64_t keep;	     // the newest, by their start; 0: no matter how many
	bool by_age;	     // those that ended …
	int64_t keep_for_ms; // … longer ago than that
};
// Remove what is over one of the limits. Runs that go on stay, and count for none. A run that
// cannot be removed does not keep the others.
int runs_prune(
	struct store *s, const struct run_prune *prune, uint64_t *removed, struct error *err);
