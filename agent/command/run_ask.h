// SPDX-License-Identifier: Apache-2.0
//
// Requests to the supervisors of runs, by the verbs stop, kill and rm.
#pragma once

#include "agent/command/run_lookup.h"

enum { RUN_GRACE_SECONDS_MAX = 86400 };

enum run_ask_what { RUN_ASK_STOP, RUN_ASK_KILL, RUN_ASK_SIGNAL };
struct run_ask {
	enum run_ask_what what;
	int signo;	  // RUN_ASK_SIGNAL
	int64_t grace_ms; // RUN_ASK_STOP; -1: the node's
};

// One that has ended is content with STOP and KILL; SIGNAL finds nobody (ERROR_NOT_FOUND). One that
// is still being prepared is canceled through its `stoker run`.
int run_ask(
	struct store *s, const struct run_found *run, const struct run_ask *ask, struct error *err);
// All of them, and (STOP, KILL) wait for their ends. All names are looked up before anything is
// done. Returns 0, the exit status.
int run_ask_all(
	struct store *s, char **names, int count, const struct run_ask *ask, struct error *err);
