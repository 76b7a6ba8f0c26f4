// SPDX-License-Identifier: Apache-2.0
//
// What the agent counts, for /metrics of its socket.
#pragma once

#include <stdatomic.h>

extern struct link_counters {
	atomic_ullong polls, poll_failures;
	atomic_ullong accepted, returned; // starts
	atomic_ullong log_bytes;	  // of logs that arrived at the controller
	atomic_ullong uploads, upload_failures, upload_bytes; // rounds; of files that arrived
} link_counters;
