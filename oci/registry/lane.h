// SPDX-License-Identifier: Apache-2.0
//
// Inside of download.h: a lane is one request at a time for a run of a blob's chunks. It claims the
// run, writes what comes, and marks it in the map; a lane that ends is free for the next run.
#pragma once

#include "oci/registry/download.h"
#include "oci/registry/part.h"

#include <stdbool.h>
#include <stdint.h>

enum { LANES_MAX = 32 };

struct lane {
	struct download *download;
	struct request *request; // NULL: free
	uint32_t chunk, end;	 // chunks still to fetch
	bool whole;	   // the server ignored Range: this lane gets the blob from its first byte
	uint64_t position; // of the next byte
};

struct download {
	struct downloads *all;
	struct download *next;
	uint32_t id;
	struct oci_digest digest;
	int fd, map_fd;
	struct part part;
	unsigned char *claimed; // per chunk: some lane is at it
	struct lane lanes[LANES_MAX];
	size_t lane_count;
	bool no_ranges; // the server does not keep to Range
	bool over;	// done or cancelled; freed at the end of the turn
	uint64_t fetched;
	uint64_t told_contiguous, told_fetched;
	int64_t told_at;
	const struct download_events *events;
	void *data;
};

// Start one more request for the blob. False: there is nothing left to ask for, or only what lies
// too far ahead, or the server does not know ranges and has been asked for the whole.
bool lane_start(struct download *b);
// All of them but one (which may be NULL).
void lanes_stop(struct download *b, const struct lane *except);

// What lanes say to their blob, in download.c.
void download_tell(struct download *b); // of progress, if there is enough of it
void download_finish(struct download *b, const struct error *err);
