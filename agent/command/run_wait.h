// SPDX-License-Identifier: Apache-2.0
//
// Until a run has ended, whoever has it: its lock says so, also when its owner is killed.
#pragma once

#include "agent/command/run_lookup.h"

// Fills in the summary of the end, of the last attempt. Strings live in the arena.
int run_wait(struct store *s, struct run_found *run, struct arena *a, struct run_summary *summary,
	struct error *err);
