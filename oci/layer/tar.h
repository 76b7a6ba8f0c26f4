// SPDX-License-Identifier: Apache-2.0
//
// A tar stream (ustar, PAX, GNU, with sparse files) into a sink, by libarchive. Layer rules of the
// OCI image-spec (layer.md): whiteouts, opaque whiteouts, hard links to earlier entries.
//
// Refused with ERROR_INVALID, naming the entry: "..", a link to outside, negative sizes, names over
// 255 bytes a component or 4096 in all, ids that are none, damaged PAX records. A leading '/' or
// "./" is dropped; an unknown type flag is a regular file (POSIX). Sizes over the limits are
// ERROR_LIMIT, a stream that ends early is ERROR_INTEGRITY. An empty stream is an empty layer.
// trusted.overlay.* and user.overlay.* attributes are dropped: they would steer the overlay mount.
#pragma once

#include "oci/layer/sink.h"
#include "oci/layer/stream.h"

// Reads to the end of the archive. What follows the end-of-archive blocks is read and ignored (the
// stream's digest covers it).
int tar_read(struct layer_stream *in, struct layer_sink *sink, const struct layer_limits *limits,
	uint64_t *entry_count, struct error *err);

// Load the converter of names that libarchive will ask the C library for, which opens files. To be
// called before a sandbox forbids that; without it tar_read() works all the same where open(2)
// merely fails.
void tar_prepare(void);
