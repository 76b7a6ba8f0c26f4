// SPDX-License-Identifier: Apache-2.0
//
// One GET behind redirects, from the first connection to the last byte, under the limits of a
// download: stall, deadline, cancellation, addresses.
#pragma once

#include "agent/data/download.h"
#include "agent/data/download_head.h"
#include "oci/registry/transfer.h"

enum { EXCHANGE_REDIRECTS_MAX = 10, EXCHANGE_HEADERS_MAX = 64 };

struct download_exchange {
	const struct download_options *options;
	int64_t deadline;	    // monotonic ms; INT64_MAX: none
	const char *const *headers; // of this request, to every host; NULL-terminated
	// Of an answer with status 2xx. -1 ends the exchange with that error.
	int (*head)(void *data, const struct download_head *head, struct error *err);
	int (*body)(void *data, const char *bytes, size_t size, struct error *err);
	// From time to time, so that the caller can tell and give up; other than 0: it does.
	int (*tick)(void *data);
	void *data;

	// What became of it.
	int status; // of the last answer; 0: none
	char reason[64];
	int64_t retry_after_ms; // -1: none
	char final_url[2048];	// "" if it is longer
	bool retry;		// the same again may work
	enum data_failure failure;
};

// 0: there is a complete answer, of whatever status but a redirect. -1: there is none; or head() or
// body() has failed: then x->failure is as it was set before.
int download_exchange_run(struct http *http, struct download_exchange *x, struct error *err);
