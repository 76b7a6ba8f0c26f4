// SPDX-License-Identifier: Apache-2.0
//
// Why a run ended: whose matter it is, a code for programs, a line for people.
#pragma once

#include "agent/data/failure.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum cause_class {
	CAUSE_USER,	      // the script, the job, the image it names
	CAUSE_SYSTEM,	      // this node: disk, memory, kernel
	CAUSE_INFRASTRUCTURE, // what the node depends on: registries, the network
};

struct cause {
	enum cause_class class;
	const char *code; // static; NULL: there is no cause (yet)
	char message[sizeof(((struct error *)0)->text)];
	int exit_code; // of the script; -1 if it did not exit by itself
	int signal;    // that killed the script; 0 if none
};

enum cause_phase { CAUSE_CHECKING, CAUSE_PULLING, CAUSE_PREPARING, CAUSE_STARTING, CAUSE_RUNNING };

// An error that ended the run in a phase.
struct cause cause_of_error(enum cause_phase phase, const struct error *err);
// An input that could not be had.
struct cause cause_of_data(enum data_failure failure, const struct error *err);
// The same, while the script ran, which failed then.
struct cause cause_of_lost_input(const struct cause *lost, int status);
// The script's wait status.
struct cause cause_of_status(int status);
// The kernel killed in the job for want of memory, and the script was killed or failed.
struct cause cause_out_of_memory(uint64_t kills, uint64_t limit, int status);
// Why a script was asked to end.
enum cause_stop {
	STOP_NONE,
	STOP_SIGNAL,	 // `stoker run` got a signal
	STOP_REQUEST,	 // stoker stop
	STOP_KILL,	 // stoker kill
	STOP_DEADLINE,	 // max_run_duration_seconds
	STOP_DISK_LIMIT, // resources.disk
	STOP_DISK_FULL,	 // the node's disk
};
// `detail`: whatever the message says beside that ("more than 60 s"); `signo`: of STOP_SIGNAL;
// `status`: what became of the script.
struct cause cause_of_stop(enum cause_stop stop, int signo, const char *detail, int status);
// There was no script yet.
struct cause cause_canceled_early(int signo);

// Is it worth another attempt (max_retries)? Not what would happen again for certain: a job that is
// wrong, a script that cannot be started, limits that it ran into; nor what somebody wanted.
bool cause_is_retried(const struct cause *c);

const char *cause_class_name(enum cause_class class);
