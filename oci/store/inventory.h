// SPDX-License-Identifier: Apache-2.0
//
// What is in the store and what needs what: the images with their layers, and for each layer how
// many images name it and whether it is in use. The ground on which eviction and prune decide.
#pragma once

#include "oci/store/internal.h"

struct inventory_layer {
	struct oci_digest diff_id;
	enum layer_format format;
	struct store_size size; // only where not in_use
	bool in_use;		// leased or pinned, when it was looked at
	size_t users;		// images that name it and are not chosen
};

struct inventory_image {
	const struct store_image *image;
	struct inventory_layer **layers; // those that are here
	size_t layer_count;
	size_t own_count; // without the one of store_parents_id(), which may stand last
	bool chosen;	  // to be removed
};

struct inventory {
	struct arena arena;
	struct inventory_layer *layers;
	size_t layer_count;
	struct inventory_image *images; // most recently used first
	size_t image_count;
};

// Fails where a document cannot be read; one that is missing or damaged makes an image without
// layers.
int inventory_read(struct store *s, struct inventory *v, struct error *err);
void inventory_release(struct inventory *v);

// Choose an image: its layers have one user less. Returns what its removal sets free.
struct store_size inventory_choose(struct inventory_image *image);
// What that would be.
struct store_size inventory_gain(const struct inventory_image *image);
// Do all its layers serve somebody? An image without layers never does.
bool inventory_image_in_use(const struct inventory_image *image);

#define cleanup_inventory __attribute__((cleanup(inventory_release)))
