// SPDX-License-Identifier: Apache-2.0
//
// The threads inside a layer worker. One pulls compressed bytes and inflates them into a ring of
// blocks; one hashes both the compressed bytes and the blocks; the caller's thread takes the blocks
// out as a layer_stream, parses and writes. A block is used again when all have done with it. Three
// threads on two cores: the scheduler levels the load, which no fixed division by two would.
#pragma once

#include "base/error.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "oci/layer/stream.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Where compressed bytes come from. Called on the first thread only; blocks until there is
// something.
struct pipeline_source {
	// Up to `size` bytes into `buffer`. Returns how many (> 0), 0 at the end, -1 on error.
	ssize_t (*read)(void *data, void *buffer, size_t size, struct error *err);
	// Compressed bytes taken and uncompressed bytes made so far, after each block. May be NULL.
	void (*progress)(void *data, uint64_t consumed, uint64_t produced);
	void *data;
	// The bytes are not compressed, so one hash does: consumed_sha256 stays zero.
	bool plain;
};

struct pipeline_totals {
	uint64_t consumed, produced;
	uint8_t consumed_sha256[SHA256_SIZE], produced_sha256[SHA256_SIZE];
};

struct pipeline;

// Allocates everything and starts the threads, which wait: nothing is read before pipeline_start().
// So the process can be confined in between, with no thread left to be made. `bytes_max` bounds the
// uncompressed stream (ERROR_LIMIT).
struct pipeline *pipeline_new(
	const struct pipeline_source *source, uint64_t bytes_max, struct error *err);
// Stops and joins the threads. A thread that blocks in the source is waited for. NULL is fine.
void pipeline_free(struct pipeline *p);

void pipeline_start(struct pipeline *p);

// The uncompressed bytes. A block is valid until the next call of next(). Lives in the pipeline.
struct layer_stream *pipeline_stream(struct pipeline *p);

// After next() has returned 0: waits for the hashes. Fails if the stream was not read to its end.
int pipeline_finish(struct pipeline *p, struct pipeline_totals *totals, struct error *err);

// After a failure: nothing more is inflated, but the source is read to its end, so that the digest
// of the compressed bytes can tell a bad archive from a bad transfer. Fills totals->consumed*.
int pipeline_drain(struct pipeline *p, struct pipeline_totals *totals, struct error *err);

DEFINE_CLEANUP(pipeline_free, struct pipeline *, pipeline_free)
#define cleanup_pipeline __attribute__((cleanup(pipeline_freep)))
