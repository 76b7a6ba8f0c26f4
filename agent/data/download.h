// SPDX-License-Identifier: Apache-2.0
//
// One file from an HTTP server into a cache on this disk, once however many ask: the engine under
// the inputs of kind http and under the package proxy of environment builds.
//
//   <cache>/objects/sha256/ab/<64 hex>     contents; immutable
//   <cache>/urls/<sha256 of the URL>.json  what an address gave last: ETag, Last-Modified, digest
//   <cache>/parts/<key>, <key>.json        broken off: bytes, and of what they are (ETag, length)
//   <cache>/locks/<key>                    single flight, by flock(2)
//
// All of it is blocking and may be called by several threads and processes at once. Who writes the
// cache need not be who speaks to servers: download_options.exchange puts another process between.
#pragma once

#include "agent/config/policies.h"
#include "agent/data/failure.h"
#include "base/error.h"
#include "base/json_decode.h"

#include <stdbool.h>
#include <stdint.h>

struct download_cache;
struct download_exchange;

// Opens or makes `name` below state_fd, and sweeps what dead processes left.
struct download_cache *download_cache_open(
	int state_fd, const char *name, const struct cache_limits *limits, struct error *err);
void download_cache_free(struct download_cache *c);

struct download_options {
	const char *url;	     // http or https
	struct json_strings headers; // "Name: value", for the first host only
	const char *sha256;	     // expected, 64 hex digits; NULL: unknown
	uint64_t size;		     // expected; 0: unknown
	uint64_t max_bytes;	     // 0: no limit but the disk's
	int revalidate; // 1: ask the server even if it is here; 0: what is here is right; -1: fetch
			// anew
	uint64_t stall_ms; // hardly a byte for so long: tried again; 0: 30 s
	uint64_t limit_ms; // for all tries together; 0: none
	unsigned tries;	   // 0: 6; exponential with jitter, Retry-After is honoured
	// Addresses that a job must not reach through us (loopback, link-local, this node's own)
	// are refused, except for these "host:port".
	struct json_strings local_hosts;
	const char *ca, *proxy; // NULL: the system's, the environment's
	// Bytes here, of how many (0: unknown), from time to time; a return other than 0 gives up.
	int (*progress)(void *data, uint64_t done, uint64_t total);
	void (*notice)(void *data, const char *text); // a line for people: retries; may be NULL
	void *data;
	// Who speaks to the server (download_exchange.h); NULL: this process does.
	int (*exchange)(void *exchange_data, struct download_exchange *x, struct error *err);
	void *exchange_data;
};

struct download_result {
	int fd; // of the content, read-only, leased (LOCK_SH) as long as it is open
	char sha256[65];
	uint64_t size;	  // on failure: what the server said, 0: nothing
	uint64_t fetched; // bytes over the network in this call
	bool reused;	  // nothing was fetched
	char content_type[128];
	char final_url[2048]; // behind redirects; "" when nothing was asked
	long status;	      // of the last answer; 0: none
};

// Resumes with If-Range; accepts only a fitting 206; a 200 starts again. The whole is hashed; a
// mismatch is fetched once more, then DATA_CHECKSUM. 0, or -1 with the failure and one line.
int download_get(struct download_cache *c, const struct download_options *o,
	struct download_result *r, enum data_failure *failure, struct error *err);
void download_result_release(struct download_result *r);
// A lease on content that is here: 1 with *fd, 0, -1.
int download_lease(struct download_cache *c, const char *sha256, int *fd, struct error *err);
// A URL as it may be shown: without user, password and the values of its query.
void download_url_shown(const char *url, char *out, size_t size);

#define cleanup_download_result __attribute__((cleanup(download_result_release)))
