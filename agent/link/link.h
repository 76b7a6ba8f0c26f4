// SPDX-License-Identifier: Apache-2.0
//
// The node's side of the controller's protocol: one thread polls, and each attempt that the node
// holds has a thread of its own (attempt.c), which starts the engine, follows the run's record and
// sends its log. What must survive the agent is on the disk before it is said:
//
//   <state>/node/attempts/<run>.<attempt>/   mode 0700
//     start.json    what the controller said; the attempt is accepted once it is there
//     started       the engine made a run of it: never again
//     job.json secrets/ source/ restore/   what `stoker run` gets
//   <state>/node/attempts/.unreadable.…      whose start.json could not be read
//
// The run has the same name, <run>.<attempt>, and the engine refuses one that exists: so nothing is
// started twice, whatever is killed between.
#pragma once

#include "agent/config/config.h"
#include "agent/link/credential.h"
#include "agent/service/service.h"
#include "base/process.h"
#include "oci/store/store.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

// How results fared (below).
struct upload_status {
	uint64_t files, bytes; // at the controller
	bool failed;	       // some file could not be sent, and never will
	char message[256];
};

struct link {
	struct credential credential;
	struct store *store;
	const struct config *settings;
	struct json_pairs labels;
	const char *config; // file for the engine; NULL: the default
	const char *version;
	int news; // eventfd: a report has changed
	pthread_mutex_t lock;
	struct attempt *attempts; // guarded by `lock`
};

struct attempt {
	struct attempt *next;
	struct link *link;
	pthread_t thread;
	struct arena arena; // of the thread
	const struct json *start;
	const char *run, *token, *id; // of the controller; of its files; <run>.<attempt>
	unsigned number;
	int folder, wake; // wake: eventfd, one of the words below has changed
	// Guarded by link->lock.
	char *report;	  // ATTEMPT
	int64_t sequence; // of `report`
	bool ended;	  // `report` says so
	bool cancel, stale, known, done;
	// The thread's.
	bool answered; // the controller did, when the start failed
	char *said;    // `report` with the sequence 0
	struct process engine, asker;
	struct service *service; // with the token of its files
	struct log_sender *log;
	struct results *results;       // rounds while the run goes on
	struct upload_status uploaded; // of the round when it has ended
	bool upload_done;
	_Atomic uint64_t log_waiting; // bytes of the log that the controller does not have
};

// Serve until SIGTERM or SIGINT; jobs are left alone.
int link_serve(struct link *l, struct error *err);

// Two agents would each take what the controller gives to one: a descriptor that holds the node,
// for who is the agent or wants to be sure that there is none. ERROR_UNAVAILABLE.
int link_lock(struct store *s, struct error *err);
// How many attempts are on the disk.
unsigned link_attempts_held(struct store *s);

// Keep a start that the controller gave, durably, and begin with it. Content with one that is
// there.
int attempt_accept(struct link *l, const struct json *start, struct error *err);
// Go on with those on the disk.
int attempt_resume_all(struct link *l, struct error *err);
// Free those whose threads have ended.
void attempt_reap(struct link *l);
void attempt_wake(struct attempt *a);
void attempt_wake_all(struct link *l);

// job.json and what it names, from start.json. ERROR_UNAVAILABLE: the snapshot could not be had
// now; ERROR_INTEGRITY: what came was another.
int attempt_write_job(struct attempt *a, struct error *err);
// What the controller has of the run's outputs, into restore/ of the attempt's folder, if the start
// says so. Goes on with what a broken one has left. Errors as before.
int attempt_restore(struct attempt *a, struct error *err);

// The log of a run that goes on, to the controller.
struct log_sender *log_sender_new(struct attempt *a);
void log_sender_free(struct log_sender *s);
// Send what there is of the run's attempts up to the `last`; with `whole`, what there is is all.
// Fails with what is worth another try, later; what was refused too often is given up, and that is
// no failure.
int log_sender_send(
	struct log_sender *s, int runs_fd, unsigned last, bool whole, struct error *err);
// Which log is not all at the controller, and why; NULL: none.
const char *log_sender_trouble(const struct log_sender *s);

// Whose results they are, and by what service they go.
struct upload {
	struct service *service;
	const char *run;
};
// The results of a run that goes on, outputs/ and logs/, to the controller, which is asked each
// time what it has: so nothing need be remembered here. What is there no more goes there too.
// One round over an attempt's folder. With `whole` the run has ended: everything is finished, and
// the mark is set that all is there. ERROR_UNAVAILABLE: later.
int upload_round(const struct upload *u, int attempt_fd, bool whole, struct upload_status *status,
	struct error *err);
