// SPDX-License-Identifier: Apache-2.0
//
// Downloads of a job's inputs, several files at a time, by the engine of download.h. It runs here,
// where the cache is; to servers speaks a helper process: this program started again without
// capabilities, as an unprivileged user where we are root, with no file system beyond what name
// resolution needs. A request goes there over a socket, a head and a body come back.
//
// A server that takes the helper over can say what it likes to us, as it could before, and reach
// what the network lets it; there is nothing that it can write.
#pragma once

#include "agent/data/cache.h"

struct data_http_file {
	const struct data_file *file;
	size_t source;	    // whose it is: those of one source are given up together
	uint64_t max_bytes; // 0: none
	uint64_t limit_ms;  // 0: none
	int revalidate;	    // as download_options.revalidate
	// What came of it.
	char sha256[65];
	uint64_t done, total, fetched; // bytes
	uint64_t before; // fetched, when there was no room and all of them were asked for again
	bool reused, complete;
	int lease_fd; // of the content, the caller's to close; -1: none
};

struct data_http {
	struct cache *cache;
	const struct data_policy *policy;
	struct data_http_file *files;
	size_t count;
	// These are called by any thread, by one at a time.
	// Bytes of a file have come; other than 0 gives up: canceled.
	int (*progress)(void *data, size_t index);
	void (*notice)(void *data, size_t index, const char *text);
	// A file failed: does its source matter? If not, the others go on.
	bool (*forgive)(void *data, size_t index, enum data_failure failure);
	void *data;
	size_t failed; // the file
	enum data_failure failure;
};

// All of them; 0, or -1 with the first failure. What was fetched stays for the next time.
int data_http_fetch(struct data_http *h, struct error *err);

// main() of the helper ("stoker data"); its lanes are descriptors from 3 on.
int data_http_main(void);
