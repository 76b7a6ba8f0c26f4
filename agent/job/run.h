// SPDX-License-Identifier: Apache-2.0
//
// One attempt of a run, and its directory:
//
//   <state>/runs/<run id>/1/
//     job.yaml               the specification as it was given (job.json for a command)
//     run.json               state, cause, times, image, phases; rewritten at each change of state
//     user_logs/std_log.txt  what the script printed, byte for byte
//     outputs/ logs/         the script's results
//     code/                  the snapshot of source_directory, the script's working directory
//     upper/ work/           what it changed in the image; removed at the end
//   <state>/runs/.active/<run id>   locked as long as the run is ours
//
// A run whose process was killed is found by its lock file, which nobody holds then, and is ended
// by whoever comes next (run_sweep).
#pragma once

#include "agent/job/cause.h"
#include "base/error.h"
#include "oci/store/store.h"

#include <stdbool.h>
#include <stdint.h>

enum run_state {
	RUN_NOT_STARTED,
	RUN_PREPARING,
	RUN_RUNNING,
	RUN_FINALIZING,
	RUN_COMPLETED,
	RUN_FAILED,
	RUN_CANCELED,
};
const char *run_state_name(enum run_state state); // "NotStarted", …

enum { RUN_ID_MAX = 160, RUN_PHASES_MAX = 16 };

struct run_phase {
	const char *name;	  // static: "pulling", …
	int64_t start_ms, end_ms; // wall clock; end 0: goes on
};

struct run {
	char id[RUN_ID_MAX]; // <experiment>_<seconds>_<8 hex digits>; "" if none
	char *path;	     // of the attempt's directory, absolute
	int runs_fd, fd;     // <state>/runs, the attempt's directory
	int lock_fd;
	char experiment[RUN_ID_MAX];
	enum run_state state;
	struct cause cause;			  // code NULL until the end
	int64_t created_ms, started_ms, ended_ms; // started: the script
	struct run_phase phases[RUN_PHASES_MAX];
	size_t phase_count;
	struct store_image image; // reference.path[0] == 0: not known yet
};

// Make the directory, with the specification's text in a file of that name, and the first run.json.
int run_create(struct run *r, struct store *s, const char *experiment, const char *document_name,
	const void *document, size_t size, struct error *err);
// Change state and begin a phase (NULL: only the state); writes run.json.
int run_enter(struct run *r, enum run_state state, const char *phase, struct error *err);
// The last change: records the cause, removes what only the running job needed, gives up the lock.
int run_end(struct run *r, enum run_state state, const struct cause *cause, struct error *err);
void run_release(struct run *r); // frees; fine on a zeroed one

// End the runs of processes that were killed. Failures are left to the next one who comes.
void run_sweep(struct store *s);

#define cleanup_run __attribute__((cleanup(run_release)))
