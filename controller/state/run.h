// SPDX-License-Identifier: Apache-2.0
//
// Runs in the tables: from the submission to the end. States and what may follow which:
//
//   NotStarted ─ Starting ─ Preparing ─ Running ─ Finalizing ─ Completed | Failed | Canceled
//        └────────── a lost node ─────────┘
//
// A wish to cancel is a column of its own, and is shown as CancelRequested until the end.
#pragma once

#include "base/json_write.h"
#include "controller/state/identity.h"
#include "controller/state/job.h"

enum { RUN_ID_SIZE = 161, RUN_EVENTS_KEPT = 2000 };

struct run_submission {
	const struct json *job, *secrets, *properties; // the last two: NULL if none
	const char *snapshot;			       // SHA-256 or NULL
	const char *owner, *key;		       // the second: Idempotency-Key or NULL
	int64_t now;
};
// The run's id. With a key that the owner has used before it is that run's (*made false).
// ERROR_INVALID: the job; ERROR_NOT_FOUND: the snapshot; ERROR_LIMIT: too many in the queue.
int run_submit(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const struct run_submission *s, char id[RUN_ID_SIZE], bool *made, struct error *err);
// Nothing if it has ended; one in the queue, or handed out to a node that was not told of it yet,
// ends at once.
int run_cancel(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *id, const char *by, int64_t now, struct error *err);
// The attempt never started (0: there was none): it is over, and so is the run.
int run_cancel_unstarted(struct database_tx *tx, struct arena *a,
	const struct controller_limits *limits, const char *id, int64_t attempt, int64_t now,
	struct error *err);
// With its files, events, metrics and tokens. 1: it has not ended, or a model needs it.
int run_remove(struct database_tx *tx, struct arena *a, const char *id, struct error *err);
// The end: `result` Completed, Failed or Canceled; cause as JSON or NULL. Secrets go; its tokens
// are of an attempt that is over.
int run_end(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *id, const char *result, const char *cause, int64_t now, struct error *err);
// Its attempt has come to nothing: it waits again, or, if it is to be canceled, ends.
int run_requeue(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *id, int64_t now, struct error *err);
// For those who follow it: {kind, data} with the next number. `data` is JSON. Of kinds other than
// "state" and "end" those among the last RUN_EVENTS_KEPT are kept.
int run_event(struct database_tx *tx, struct arena *a, const char *id, const char *kind,
	const char *data, int64_t now, struct error *err);
// The event "state", with the run as users see it.
int run_event_state(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *id, int64_t now, struct error *err);

// As JSON. ERROR_NOT_FOUND. `full`: with job, attempts and properties.
int run_write(struct database_tx *tx, struct arena *a, const char *id, bool full, int64_t now,
	const struct controller_limits *limits, struct json_writer *w, struct error *err);
struct run_list {
	const char *owner, *experiment, *state; // NULL: any
	const char *after;			// `next` of the page before; NULL
	uint64_t limit;
};
// Writes the members "runs" and "next" of an object.
int run_list(struct database_tx *tx, struct arena *a, const struct run_list *l, int64_t now,
	const struct controller_limits *limits, struct json_writer *w, struct error *err);

// A document of the tables as a member: null where there is none.
void run_write_document(struct json_writer *w, struct arena *a, const char *key, const char *text);
const char *run_json_text(struct arena *a, const struct json *tree); // one line; NULL of NULL
