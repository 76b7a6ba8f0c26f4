// SPDX-License-Identifier: Apache-2.0
//
// The layer worker: the process that turns one compressed tar stream, from nobody we trust, into a
// layer. It is this program started again and then confined by seccomp to reading, writing and
// mapping the descriptors it was given (for the directory form: also to making files below one
// folder). Inside, threads share the work: inflate | hash | parse and write.
#pragma once

#include "base/error.h"
#include "base/loop.h"
#include "oci/image/digest.h"
#include "oci/layer/sink.h"

#include <stdbool.h>
#include <stdint.h>

enum layer_format { LAYER_EROFS, LAYER_DIRECTORY };

struct layer_worker_options {
	enum layer_format format;
	int blob_fd; // the compressed bytes; a file that may still be growing
	// The blob is a pipe instead (tree_reader.h): read to its end, whatever its size and
	// digest, which are not looked at; feeding is not needed.
	bool stream;
	int output_fd; // LAYER_EROFS: empty file; LAYER_DIRECTORY: empty folder
	uint64_t blob_size;
	struct oci_digest blob_digest; // expected, of the compressed bytes
	struct oci_digest
		diff_id; // expected, of the uncompressed bytes; may be empty (then reported)
	struct layer_limits limits;
};

struct layer_result {
	struct oci_digest diff_id;
	uint64_t uncompressed; // bytes of the tar stream
	uint64_t entries;
	uint64_t image_size; // bytes of the result
};

struct layer_worker_events {
	// Compressed bytes consumed and uncompressed bytes made so far; a few times a second.
	void (*progress)(void *data, uint64_t consumed, uint64_t produced);
	// Once. err NULL on success: both digests and the size are as expected, the output is
	// durable.
	void (*done)(void *data, const struct layer_result *result, const struct error *err);
};

struct layer_worker;

// The descriptors are duplicated, the blob's for reading only; the caller keeps his.
struct layer_worker *layer_worker_start(struct loop *loop,
	const struct layer_worker_options *options, const struct layer_worker_events *events,
	void *data, struct error *err);
// `contiguous` bytes of the blob, from its start, may be read now. Never goes back.
void layer_worker_feed(struct layer_worker *w, uint64_t contiguous);
// Kills it if it runs; no further events. NULL is fine.
void layer_worker_free(struct layer_worker *w);

DEFINE_CLEANUP(layer_worker_free, struct layer_worker *, layer_worker_free)
#define cleanup_layer_worker __attribute__((cleanup(layer_worker_freep)))

// main() of the helper process ("stoker layer"); its socket is descriptor 3.
int layer_worker_main(void);
