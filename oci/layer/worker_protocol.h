// SPDX-License-Identifier: Apache-2.0
//
// What the agent and a layer worker say to each other: one packet is one struct. Both ends are the
// same program, so the layout is the compiler's; what the worker says is checked all the same
// (worker.c).
#pragma once

#include "oci/layer/worker.h"

// The worker's descriptors.
enum { WORKER_SOCKET = 3, WORKER_BLOB = 4, WORKER_OUTPUT = 5 };

enum worker_message_type {
	WORKER_OPTIONS = 1, // to the worker, first
	WORKER_FEED,	    // to the worker
	WORKER_PROGRESS,    // to the agent
	WORKER_RESULT,	    // to the agent, last
	WORKER_FAILURE,	    // to the agent, last
};

struct worker_message {
	uint32_t type;
	union {
		struct {
			uint32_t format; // enum layer_format
			bool stream;
			uint64_t blob_size;
			struct oci_digest blob_digest, diff_id;
			struct layer_limits limits;
		} options;
		struct {
			uint64_t contiguous;
		} feed;
		struct {
			uint64_t consumed, produced;
		} progress;
		struct layer_result result;
		struct error failure;
	};
};
