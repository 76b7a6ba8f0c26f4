// SPDX-License-Identifier: Apache-2.0
//
// One attempt of a run, and its directory:
//
//   <state>/runs/<run id>/<attempt>/   1, 2, …
//     job.yaml               the specification as it was given (job.json for a command)
//     run.json               state, cause, times, image, phases; rewritten at each change of state
//     user_logs/std_log.txt  what the script printed, byte for byte
//     outputs/ logs/         the script's results
//     code/                  the snapshot of source_directory, the script's working directory
//     upper/ work/           what it changed in the image; removed at the end
//   <state>/runs/<run id>/source/      the snapshot as it was taken, for further attempts
//   <state>/runs/.active/<run id>   locked as long as the run is ours
//
//   <run>/runs/<run id>/           what exists as long as a supervisor does: its control socket
//
// The lock goes with its descriptor from the command that made the run to the run's supervisor. A
// run whose process was killed is found by its lock file, which nobody holds then, and is ended by
// whoever comes next (run_sweep).
#pragma once

#include "agent/job/cause.h"
#include "agent/job/identity.h"
#include "base/error.h"
#include "oci/runtime/cgroup.h"
#include "oci/store/store.h"

#include <stdbool.h>
#include <stdint.h>

struct job_spec;

enum run_state {
	RUN_NOT_STARTED,
	RUN_PREPARING,
	RUN_RUNNING,
	RUN_FINALIZING,
	RUN_CANCEL_REQUESTED,
	RUN_COMPLETED,
	RUN_FAILED,
	RUN_CANCELED,
};
const char *run_state_name(enum run_state state); // "NotStarted", …
bool run_state_is_end(const char *name);

enum { RUN_ID_MAX = 160, RUN_PHASES_MAX = 16 };

struct run_phase {
	const char *name;	  // lives as long as the run: "pulling", …
	int64_t start_ms, end_ms; // wall clock; end 0: goes on
	char detail[160]; // what or why: "was here", "reused: …"; "" if there is nothing to say
	uint64_t bytes;	  // fetched or written in it; 0: none, or not counted
	uint64_t total;	  // of how many, while it goes on; 0: not known
	uint64_t rate;	  // bytes a second, while it goes on
};

// The environment that the job's packages became: agent/environment/environment.h.
struct run_environment {
	char key[65], request_key[65]; // "": none was asked for
	bool reused;
	char reason[160];
	char base[OCI_REFERENCE_TEXT_MAX]; // the image that it was made of
};

struct run {
	char id[RUN_ID_MAX]; // <experiment>_<seconds>_<8 hex digits>; "" if none
	char *path;	     // of the attempt's directory, absolute
	int runs_fd, fd;     // <state>/runs, the attempt's directory
	int lock_fd;
	unsigned attempt; // from 1
	bool retried;	  // this one has ended, and another follows
	char experiment[RUN_ID_MAX];
	enum run_state state;
	enum run_state outcome; // the end that is known while it is still RUN_FINALIZING
	struct cause cause;	// code NULL until the end
	int64_t created_ms, started_ms, ended_ms; // started: the script
	struct run_phase phases[RUN_PHASES_MAX];
	size_t phase_count;
	struct run_told {
		int64_t ms;	     // monotonic, of what run_progress() wrote last; 0: nothing
		uint64_t done, from; // bytes then; and in the beginning
		int64_t from_ms;
	} told;
	struct run_environment environment;
	struct store_image image; // reference.path[0] == 0: not known yet
	// Of the end: what `stoker run` and `stoker wait` exit with.
	int exit_status;
	bool has_stats;
	struct cgroup_stats stats; // of the whole run, at its end
	const char *warnings;	   // one line each; NULL: none. The owner's.
	const char *cgroup;	   // of the job; NULL: none. The owner's.
	char boot_id[BOOT_ID_SIZE];
	struct run_client { // the `stoker run` that made it
		pid_t pid;
		uint64_t start_time;
	} client;
	const struct job_spec *spec; // what run.json repeats of it; NULL: nothing. The owner's.
	struct run_supervisor {
		pid_t pid; // 0: there was none yet
		uint64_t start_time;
		pid_t container; // its process 1, as the node sees it; 0: not started
	} supervisor;
};

// Make the directory, with the specification's text in a file of that name, and the first run.json.
// Of what `r` holds before only `spec` and `id` are kept; an empty id becomes a new one, and one
// that there is already is refused: nothing is started twice under one name.
int run_create(struct run *r, struct store *s, const char *experiment, const char *document_name,
	const void *document, size_t size, struct error *err);
// Take over a run that another process made and whose lock came with `lock_fd`: opens its folders.
// What is known of it (id, times, phases, image) is filled in by the caller.
int run_adopt(struct run *r, struct store *s, int lock_fd, struct error *err);
// Change state and begin a phase (NULL: only the state); writes run.json.
int run_enter(struct run *r, enum run_state state, const char *phase, struct error *err);
// About the phase that goes on, for run.json's next writing.
void run_explain(struct run *r, uint64_t bytes, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
// How far it is. run.json tells it, but not for each byte: once a second at most, and when a
// hundredth more is there or, where the whole is not known, every few seconds.
void run_progress(struct run *r, uint64_t done, uint64_t total);
// The last change: records the cause and exit status, removes what only the running job needed,
// gives up the lock.
int run_end(struct run *r, enum run_state state, const struct cause *cause, int exit_status,
	struct error *err);
// The same, but the run goes on: another attempt follows.
int run_end_attempt(struct run *r, enum run_state state, const struct cause *cause, int exit_status,
	struct error *err);
// Begin the next attempt, with folders of its own and the outputs of the last one. It appears with
// its record, or not at all.
int run_retry(struct run *r, struct store *s, struct error *err);
// The number of the last attempt; 0: there is no run of that name.
unsigned run_attempt_last(int runs_fd, const char *id);
// Remove all of a run. The caller has seen that it has ended.
int run_remove(struct store *s, const char *id, struct error *err);
// Its directory, or -1.
int run_attempt_open(int runs_fd, const char *id, unsigned attempt, struct error *err);
void run_release(struct run *r); // frees; fine on a zeroed one

// End the runs of processes that were killed. Failures are left to the next one who comes.
void run_sweep(struct store *s);
// End what runs of a job whose supervisor was killed, by its record; its files become ours.
int run_leftovers_end(struct store *s, const char *id, int attempt_fd, struct error *err);
// <run>/runs/<run id>, made with mode 0700. Returns a descriptor.
int run_folder_make(struct store *s, const char *id, struct error *err);
// upper/ and work/ of an attempt.
int run_remove_scratch(int attempt_fd, struct error *err);
void run_folder_remove(struct store *s, const char *id);

#define cleanup_run __attribute__((cleanup(run_release)))
