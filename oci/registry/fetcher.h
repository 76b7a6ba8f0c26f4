// SPDX-License-Identifier: Apache-2.0
//
// The fetcher: the one process that speaks to registries. It is this program started again as a
// helper with no capabilities, no new privileges, an unprivileged user where we are root, and no
// file system beyond what name resolution needs; it gets configuration and credentials over its
// socket and writes blobs through descriptors. One fetcher serves one pull (any number of manifests
// and blobs of one repository) with one curl multi handle.
//
// Protocol: OCI distribution-spec v1.1, Docker token authentication.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "base/loop.h"
#include "oci/image/manifest.h"
#include "oci/image/reference.h"
#include "oci/registry/config.h"

#include <stdbool.h>
#include <stdint.h>

struct fetcher;

// Reads credentials (docker config.json: auths, credHelpers, credsStore; or the host's entry), then
// starts the process. Credentials never appear in argv or environment.
struct fetcher *fetcher_start(struct loop *loop, const struct registry_config *config,
	const struct oci_reference *reference, struct error *err);
// Kills the process. NULL is fine.
void fetcher_free(struct fetcher *f);

// Called once: err is NULL on success.
// `digest` is the SHA-256 of `body` (and equals the digest asked for, if one was), media_type the
// Content-Type ("" if none).
typedef void fetcher_document_fn(void *data, const struct buffer *body,
	const struct oci_digest *digest, const char *media_type, const struct error *err);

// GET /v2/<path>/manifests/<target>, target a tag or digest. At most `limit` bytes.
void fetcher_manifest(
	struct fetcher *f, const char *target, size_t limit, fetcher_document_fn *fn, void *data);
// HEAD of the same: the digest of a tag without its body. `body` is NULL; digest empty where the
// registry does not say.
void fetcher_manifest_digest(
	struct fetcher *f, const char *target, fetcher_document_fn *fn, void *data);
// GET /v2/<path>/blobs/<digest> into memory, digest verified. At most `limit` bytes.
void fetcher_document(struct fetcher *f, const struct oci_digest *digest, size_t limit,
	fetcher_document_fn *fn, void *data);

// A blob into a file that may already hold parts of it (oci/registry/part.h keeps which).
struct fetcher_blob_events {
	// `contiguous` bytes from the start are in the file; `fetched` bytes came over the network
	// so far in this call. Neither goes back. Called at least every 256 KiB of progress.
	void (*progress)(void *data, uint64_t contiguous, uint64_t fetched);
	// A line for people: "retrying in 2 s: 503 Service Unavailable". May be NULL.
	void (*notice)(void *data, const char *text);
	// Once; err NULL on success: all bytes are in the file (not verified: the layer worker
	// hashes).
	void (*done)(void *data, const struct error *err);
};

// `fd` (regular file, duplicated here) receives the bytes at their offsets by pwrite; `map_fd` is
// the sidecar of part.h. Large blobs are fetched in several ranges at once, in order of offset as
// far as possible, because the layer worker reads from the front. Sizes other than `size` are
// ERROR_INTEGRITY.
void fetcher_blob(struct fetcher *f, const struct oci_digest *digest, uint64_t size, int fd,
	int map_fd, const struct fetcher_blob_events *events, void *data);
// Give up on a blob (no further events).
void fetcher_blob_cancel(struct fetcher *f, const struct oci_digest *digest);

// Bytes received from the network in all, for tests and reports.
uint64_t fetcher_bytes(const struct fetcher *f);

// main() of the helper process ("stoker fetcher"); the socket is descriptor 3.
int fetcher_main(void);
