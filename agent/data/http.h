// SPDX-License-Identifier: Apache-2.0
//
// Downloads of a job's inputs, by a helper process: the one that speaks to their servers. It is
// this program started again without capabilities, as an unprivileged user where we are root, with
// no file system beyond the folders of the download cache and what name resolution needs. It gets
// what to fetch over its socket, fetches several files at a time with the engine of download.h, and
// tells about it.
//
// A server that takes the helper over can write into the cache of downloads, and nothing else.
#pragma once

#include "agent/data/cache.h"

enum { DATA_HTTP_CONNECTIONS = 4, DATA_HTTP_BYTES_MAX = 64 * 1024 * 1024 };

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
};

struct data_http {
	struct cache *cache;
	const struct data_policy *policy;
	struct data_http_file *files;
	size_t count;
	// Bytes of a file have come; other than 0 gives up: canceled.
	int (*progress)(void *data, size_t index);
	void (*notice)(void *data, size_t index, const char *text);
	// A file is complete, while others may still come.
	void (*arrived)(void *data, size_t index);
	// A file failed: does its source matter? If not, the others go on.
	bool (*forgive)(void *data, size_t index, enum data_failure failure);
	void *data;
	size_t failed; // the file
	enum data_failure failure;
};

// All of them; 0, or -1 with the first failure. What was fetched stays for the next time.
int data_http_fetch(struct data_http *h, struct error *err);

// main() of the helper ("stoker data"); its socket is descriptor 3.
int data_http_main(void);
