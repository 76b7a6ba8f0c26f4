// SPDX-License-Identifier: Apache-2.0
//
// What the node says of an attempt (ATTEMPT in docs/protocol.md), from the run's own record.
#pragma once

#include "agent/job/run.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/json_write.h"

#include <stdbool.h>
#include <stdint.h>

struct report_name {
	const char *run; // the controller's
	unsigned attempt;
	int64_t sequence;
	bool canceling; // it has heard that the run is to be canceled
};

// An end that no record tells.
struct report_end {
	enum run_state state; // RUN_FAILED or RUN_CANCELED
	enum cause_class class;
	const char *code, *message;
};
// Of one that has no record on this node (yet, or any more): `end` NULL says "accepted".
void report_write_bare(
	struct json_writer *w, const struct report_name *n, const struct report_end *end);
// From run.json as a tree. `uploaded`: the run has ended and its files are where they belong;
// before (NULL) an end is told as "finalizing".
struct upload_status;
void report_write(struct json_writer *w, const struct report_name *n, const struct json *record,
	const struct upload_status *uploaded);
// Does this record say an end that no further attempt follows?
bool report_is_end(const struct json *record);
