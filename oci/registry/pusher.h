// SPDX-License-Identifier: Apache-2.0
//
// The pusher: the fetcher's sibling for the other direction, confined like it. It gets open files
// and writes them into one repository of one registry (never of a mirror). One thing at a time, so
// the calls block; the registry's silence is bounded by the process's own limits
// (registries.stall_timeout, .retries).
//
// Protocol: OCI distribution-spec v1.1, Docker token authentication.
#pragma once

#include "base/error.h"
#include "base/memory.h"
#include "oci/image/reference.h"
#include "oci/registry/config.h"

#include <stddef.h>
#include <stdint.h>

struct pusher;

struct pusher_events {				      // each may be NULL
	void (*progress)(void *data, uint64_t bytes); // of the blob that is being sent
	void (*notice)(void *data, const char *text); // "retrying in 2 s: …"
	// Asked some times a second while a call waits: true, with the error, ends the call and
	// the pusher with it.
	bool (*canceled)(void *data, struct error *err);
	void *data;
};

// Only the reference's domain and path count. `events` must outlive it.
struct pusher *pusher_start(const struct registry_config *config,
	const struct oci_reference *repository, const struct pusher_events *events,
	struct error *err);
// Kills the process. NULL is fine.
void pusher_free(struct pusher *p);

// Is the blob there, or can it be mounted from the repository `from` (NULL) of the same registry?
// Returns 1, 0 or -1.
int pusher_find(
	struct pusher *p, const struct oci_digest *digest, const char *from, struct error *err);
// Upload a regular file, unless it is there. The registry checks the digest.
int pusher_blob(struct pusher *p, const struct oci_digest *digest, uint64_t size, int fd,
	struct error *err);
// `target`: a tag or a digest.
int pusher_manifest(struct pusher *p, const char *target, const char *media_type, const void *data,
	size_t size, struct error *err);

DEFINE_CLEANUP(pusher_free, struct pusher *, pusher_free)
#define cleanup_pusher __attribute__((cleanup(pusher_freep)))

// main() of the helper process ("stoker pusher"); its socket is descriptor 3.
int pusher_main(void);
