// SPDX-License-Identifier: Apache-2.0
//
// One download under way, by whoever holds the lock of its key.
#pragma once

#include "agent/data/download_exchange.h"
#include "agent/data/download_internal.h"
#include "agent/data/download_part.h"

struct download_flight {
	struct download_cache *cache;
	const struct download_options *options;
	struct download_result *result;
	enum data_failure *failure;
	char key[65];
	int64_t deadline; // monotonic ms; INT64_MAX: none
	int64_t began_ms; // wall clock
	int lock_fd;
	struct download_part part;
	struct download_record old; // what the address gave last
	int old_fd;		    // of that, leased, while it is asked for changes; else -1

	// Of this call.
	unsigned failures; // in a row
	uint64_t furthest; // the most that was here at once, when failures began
	unsigned changes;
	bool met;	  // an answer told what there is; in this call
	bool mismatched;  // once already
	bool resumed;	  // the request under way asks for what is missing
	bool discard;	  // what is here does not fit what the server has
	bool not_whole;	  // the server has sent less than all on purpose
	uint64_t checked; // `have` at the last look at the free space
	struct download_exchange exchange;
};

enum download_step {
	DOWNLOAD_DONE,
	DOWNLOAD_AGAIN, // at once
	DOWNLOAD_RETRY, // after a pause, if tries are left
	DOWNLOAD_FAILED,
};

// One request and what follows from its answer.
enum download_step download_flight_step(struct download_flight *f, struct error *err);
