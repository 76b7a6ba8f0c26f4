// SPDX-License-Identifier: Apache-2.0
//
// What push.c (the image) and push_blobs.c (how to come by a layer's compressed bytes) share.
#pragma once

#include "oci/store/internal.h"
#include "oci/store/push.h"

// A compressed layer in a file of ours.
struct push_blob {
	int fd;
	struct oci_digest digest;
	uint64_t size;
	char name[64]; // in tmp/; "": none
	bool part;     // in parts/ instead
};

bool push_canceled(const struct push_options *o, struct error *err); // true with the error

void push_blob_drop(struct store *s, struct push_blob *b);

// Archive and compress a layer. ERROR_INTEGRITY: the archive is not `layer->diff_id`, hence this
// layer was not made from a tree (tree_tar.h).
int push_compress(struct store *s, const struct push_options *o, const struct store_layer *layer,
	void (*progress)(void *data, uint64_t bytes), void *data, struct push_blob *b,
	struct error *err);

// Fetch a blob from o->source.
int push_fetch(struct store *s, const struct push_options *o, const struct oci_descriptor *d,
	void (*progress)(void *data, uint64_t bytes), void *data, struct push_blob *b,
	struct error *err);
