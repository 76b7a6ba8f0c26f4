// SPDX-License-Identifier: Apache-2.0
//
// `stoker run` beside the supervisor that it started: until the job runs, and in the foreground
// until it has ended. Input from a terminal is copied into a pipe (relay.h); files and pipes go to
// the job as they are.
#pragma once

#include "agent/supervise/client.h"

struct attach {
	struct job *job; // its stdin_fd may be replaced
	const struct supervise_settings *settings;
	int echo_fd;
	bool detach; // be content when the job has started
};

struct attach_result {
	bool ended; // false: it runs (detach)
	char state[32], code[32], message[sizeof(((struct error *)0)->text)];
	int exit_status;
};

// Start the supervisor, echo what the job prints, and pass signals on: INT, TERM and HUP ask the
// job to end, and kill it the second time; QUIT, USR1, USR2 and WINCH reach the script as they are.
// Signals stay held back afterwards. The run is the supervisor's from here on; if it could not
// take it, it is ended as Failed here. -1: with the error that ended the job, or that went wrong at
// its end.
int attach_run(const struct attach *a, struct attach_result *result, struct error *err);
