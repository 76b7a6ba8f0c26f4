// SPDX-License-Identifier: Apache-2.0
//
// What pull.c (the image) and pull_layers.c (its layers) share.
#pragma once

#include "oci/registry/fetcher.h"
#include "oci/registry/part.h"
#include "oci/store/pull.h"

struct pull;

enum pull_layer_state {
	LAYER_WANTED,  // nothing done yet
	LAYER_LOCKED,  // ours to make; bytes may be arriving, no worker yet
	LAYER_WORKING, // a worker converts
	LAYER_WORKED,  // the worker has ended well: to be committed
	LAYER_SPOILED, // resumed bytes are or may be damaged: to be fetched anew
	LAYER_READY,   // leased
};

struct pull_layer {
	struct pull *pull;
	const struct oci_descriptor *blob;
	const struct oci_digest *diff_id;
	enum pull_layer_state state;
	struct pull_layer *same_as; // an earlier layer of the image with this diff id, or NULL

	int lock_fd, part_fd, map_fd;
	bool resumed;  // part of the blob was here when we began
	bool fetching; // fetcher_blob() is under way
	uint64_t contiguous;
	struct store_stage stage;
	struct layer_worker *worker;
	struct pull_layer_progress shown;
	struct store_layer lease;
};

struct pull {
	struct store *store;
	const struct pull_options *options;
	struct loop *loop;
	struct loop_source *step, *ticker;
	struct fetcher *fetcher;
	struct arena arena;

	struct oci_platform platform;
	struct store_image image;
	struct oci_manifest manifest;
	struct oci_config config;

	struct pull_layer *layers; // in the image's order
	size_t layer_count;
	struct pull_layer **order; // those to make, in the order to begin them
	size_t order_count;
	unsigned workers, workers_most;
	enum pull_phase phase;
	bool changed; // something to show

	bool ended;
	struct error error; // why, unless error.kind is ERROR_NONE
};

// End with this error; the first one stays.
void pull_fail(struct pull *p, const struct error *err);

// The manifest and the configuration are known: lease what is here, make room for the rest and
// begin.
void pull_layers_begin(struct pull *p);
// Move every layer on as far as it goes; called from the loop after any event.
void pull_layers_step(struct pull *p);
// Show the progress now.
void pull_layers_show(struct pull *p);
// Ends workers, drops stages and locks. Leases not handed over are released.
void pull_layers_release(struct pull *p);
