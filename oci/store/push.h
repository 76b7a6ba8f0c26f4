// SPDX-License-Identifier: Apache-2.0
//
// An image of the store into a repository, or into a folder. Compressed blobs are not kept here, so
// each layer goes one of these ways, the first that works:
//
//   - it is in the repository already, or in another one of that registry, to be mounted from
//   there;
//   - it is the topmost, made here (derive.h): its archive is read from the layer, compressed with
//     gzip and sent; both digests are made on the way, and the archive's must be the diff id;
//   - it is fetched from where the base comes from, and passed on.
//
// The manifest goes last: what was killed before has left blobs that the next push finds, and no
// image. It is the stored one with the descriptors of what was sent.
#pragma once

#include "oci/registry/config.h"
#include "oci/store/store.h"

enum push_phase { PUSH_LOOKING, PUSH_COMPRESSING, PUSH_FETCHING, PUSH_SENDING };

struct push_events { // each may be NULL
	// Layer `layer` of `count`; bytes of it so far, and in all (0: not known).
	void (*progress)(void *data, enum push_phase phase, size_t layer, size_t count,
		uint64_t bytes, uint64_t total);
	void (*notice)(void *data, const char *text);
	// Asked some times a second: true, with the error, ends it.
	bool (*canceled)(void *data, struct error *err);
	void *data;
};

struct push_options {
	const struct store_image *image;	// in the store
	const struct oci_reference *repository; // domain and path; or
	const char *layout;	 // a folder, absent or empty, that becomes an OCI image layout
	const char *const *tags; // each is made to name the image, in this order
	size_t tag_count;
	const struct oci_reference *source; // where its lower layers come from; NULL: unknown
	const struct registry_config *registries;
	// The root of a layer's tree, as a descriptor to read; a mount, for the EROFS form.
	int (*open_layer)(void *data, const struct store_layer *layer, int *fd, struct error *err);
	void *open_data;
	const struct push_events *events;
};

struct push_result {
	struct oci_digest manifest;
	uint64_t sent; // bytes of blobs
	size_t layers_sent, layers_found;
};

int push_image(
	struct store *s, const struct push_options *o, struct push_result *r, struct error *err);
