// SPDX-License-Identifier: Apache-2.0
//
// exit.json in an attempt's directory: how a job ended, by the supervisor, who alone knows. It is
// there whole or not at all, and durable when exit_record_write() returns; whoever finds the
// supervisor gone and no such file knows that it was killed.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum exit_status {
	EXIT_EXITED,   // by itself; `exit_code`
	EXIT_SIGNALED, // killed by `signal`
	EXIT_FAILED,   // there was no script, or nobody knows what became of it; `reason`
};

struct exit_record {
	enum exit_status status;
	int exit_code; // 0 to 255; -1 unless EXIT_EXITED
	int signal;    // 1 to 64; 0 unless EXIT_SIGNALED
	int64_t ended_ms;
	bool oom_killed; // the kernel killed in its cgroup for want of memory
	bool timed_out;	 // max_run_duration_seconds
	bool stopped;	 // somebody asked for the end
	uint64_t log_bytes, log_dropped;
	char reason[sizeof(((struct error *)0)->text)]; // one line of UTF-8; "" if there is none
};

int exit_record_write(int dirfd, const struct exit_record *r, struct error *err);
// ERROR_NOT_FOUND if there is none (yet); ERROR_INVALID if it contradicts itself.
int exit_record_read(int dirfd, struct exit_record *r, struct error *err);
