// SPDX-License-Identifier: Apache-2.0
//
// An image from another: one more layer, and a configuration with other environment variables and
// more labels. Everything else of the base's documents stays as it is, members that we know nothing
// of included, and the family too (OCI or Docker). The same arguments give the same bytes.
//
// A layer that was never in a registry has no compressed form yet. Its descriptor is that of the
// uncompressed archive, whose digest is the diff id: a valid image, and what a push makes of it is
// another manifest with the same configuration.
#pragma once

#include "oci/store/store.h"

// RFC 3339, of the history entry: no clock in a derived image.
#define DERIVE_CREATED "1980-01-01T00:00:00Z"

struct derive_label {
	const char *key, *value;
};

struct derive_options {
	const struct store_image *base; // with its documents
	struct oci_reference reference; // of the result
	struct oci_digest diff_id;	// of the layer to go on top
	uint64_t size;			// of its archive, bytes
	const char *const *env;		// "K=V": replaces the base's of that name, or is added
	size_t env_count;
	const struct derive_label *labels; // replace, or are added
	size_t label_count;
	const char *created_by; // of the history entry
};

// Put the documents and the image record. The layer itself should be in the store and leased, or
// the image is one without it. ERROR_LIMIT: it would have more layers than an image may, or too
// large a configuration.
int store_image_derive(struct store *s, const struct derive_options *o, struct store_image *image,
	struct error *err);

// A manifest with other descriptors: the document `text` with its configuration's digest and size
// and all layers replaced. For what is pushed. "subject" is left out: it would be a claim about
// another manifest.
int derive_manifest(const char *text, size_t size, const struct oci_descriptor *config,
	const struct oci_descriptor *layers, size_t layer_count, struct buffer *out,
	struct error *err);

// The media type of a layer in the family that a manifest belongs to.
const char *derive_layer_type(const struct oci_manifest *m, enum oci_compression compression);
