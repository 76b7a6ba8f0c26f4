// SPDX-License-Identifier: Apache-2.0
//
// From a built tree to a derived image. The tree is read as a deterministic tar archive
// (oci/layer/tree_tar.h) that goes straight into the layer's EROFS image, hashed on the way: its
// digest is the layer's diff id, so the same tree gives the same layer on every node, and what is
// pushed and pulled again is the same file.
#pragma once

#include "agent/environment/environment.h"

struct seal_options {
	struct store *store;
	const struct store_image *base;
	enum layer_format format;
	int tree_fd; // the folder whose content is the layer: "opt/stoker/env/…"; bytecode.h
	const struct json_strings *activation; // "K=V", set (replacing) in the configuration's Env
	const char *reference;		       // of the derived image in the store
	uint64_t most_bytes;		       // of files' content; 0: the layer's own limit
	const char *key, *lock;		       // become labels: io.stoker.environment.key, .lock
	void (*progress)(void *data, uint64_t bytes); // of the archive, so far
	// Asked with each progress: true, with the error, ends it. May be NULL.
	bool (*canceled)(void *data, struct error *err);
	void *data;
};

struct seal_result {
	struct store_image image; // recorded
	struct oci_digest diff_id;
	uint64_t bytes; // of the archive
};

int environment_seal(const struct seal_options *o, struct seal_result *r, struct error *err);
