// SPDX-License-Identifier: Apache-2.0
//
// Directories that a layer made although its archive never named them (oci/layer/mark.h) cover the
// attributes which a lower layer gave them: an upper layer with nothing but "tmp/x" would turn a
// /tmp of mode 1777 into one of mode 0755. Where that happens in an image, one more layer goes on
// top of its others, of just these directories with the attributes that they should have: those of
// the topmost layer that has an entry for the directory.
//
// It is a function of the image's layers, made at the first use and kept in the store as a layer of
// its own, named by store_parents_id(). An empty file of that name says that none is needed.
#pragma once

#include "oci/store/store.h"

struct parents_source {
	struct oci_digest id;
	enum layer_format format;
	const int *roots; // of the mounted layers, top first; O_PATH will do
	size_t count;
};

// Returns 1 with a lease on that layer, 0 when none is needed, -1. An image whose layers leave no
// directory out costs a look at each root.
int parents_lease(struct store *s, const struct parents_source *source, struct store_layer *layer,
	struct error *err);
