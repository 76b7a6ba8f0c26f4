// SPDX-License-Identifier: Apache-2.0
//
// What a node says and what it is told (docs/protocol.md, "Nodes"). All of it are levels: saying it
// again changes nothing.
#pragma once

#include "base/json_write.h"
#include "controller/state/identity.h"
#include "controller/state/job.h"

enum {
	POLL_ATTEMPTS_MAX = 1000,
	POLL_NAMES_MAX = 5000,
	POLL_REASON_MAX = 500,
	POLL_NAME_BYTES_MAX = 1000,
	POLL_WAIT_MS_MAX = 60 * 1000
};

struct poll_attempt {
	const char *run, *state, *phase, *environment, *result;
	int64_t attempt, sequence, started, ended, retries, exit_status; // the last: -1 if none
	bool canceling;				      // it has heard that the run is to be canceled
	const struct json *progress, *cause, *upload; // NULL: not told
};

struct poll_return { // an attempt that was handed out and that the node cannot hold
	const char *run, *reason;
	int64_t attempt;
};

struct poll {
	const char *boot, *instance, *version;
	uint64_t wait_ms;
	bool draining, leaving; // the node's wish; its agent ends for now
	enum { POLL_DRAIN_UNTOLD, POLL_DRAIN_NO, POLL_DRAIN_YES } drain; // that it heard of us
	const struct json *resources;					 // NULL: as before
	double cpus;
	uint64_t memory, gpus;
	const char *const *images, *const *environments; // to NULL; NULL: as before
	struct poll_attempt *attempts;
	size_t attempt_count;
	struct poll_return *returns;
	size_t return_count;
};

// Strict, within the bounds above; `report`: only attempts may be there.
int poll_decode(struct arena *a, const struct json *document, bool report, struct poll *p,
	struct error *err);
// What it says of that attempt; NULL: nothing.
const struct poll_attempt *poll_named(const struct poll *p, const char *run, int64_t attempt);
// Take what it says: leases of what it names are renewed, states move, ends free their share.
int poll_take(struct database_tx *tx, struct arena *a, struct controller *c, const char *node,
	const struct poll *p, bool report, int64_t now, struct error *err);
// What it is to be told, as JSON. *idle: nothing that it does not know.
int poll_answer(struct database_tx *tx, struct arena *a, struct controller *c, const char *node,
	const struct poll *p, int64_t now, struct json_writer *w, bool *idle, struct error *err);
