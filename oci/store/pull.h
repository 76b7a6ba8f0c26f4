// SPDX-License-Identifier: Apache-2.0
//
// From a reference to leased layers: resolve, fetch the manifest and the configuration, check the
// space, then download and convert the missing layers, several at a time, each once however many
// processes ask.
#pragma once

#include "oci/registry/config.h"
#include "oci/store/store.h"

enum pull_phase {
	PULL_RESOLVING,	 // asking the registry what the reference names
	PULL_WAITING,	 // another process makes this layer, or a worker is not free yet
	PULL_FETCHING,	 // downloading and converting
	PULL_CONVERTING, // all bytes are here, conversion goes on
	PULL_DONE,
	PULL_PRESENT, // was here already
};

struct pull_layer_progress {
	struct oci_digest blob, diff_id;
	enum pull_phase phase;
	uint64_t size;	   // compressed bytes in all
	uint64_t fetched;  // compressed bytes here
	uint64_t consumed; // compressed bytes converted
};

struct pull_events {
	// Changes of any layer, at most every 50 ms, and once at the end. `count` is 0 while
	// resolving.
	void (*progress)(void *data, enum pull_phase phase,
		const struct pull_layer_progress *layers, size_t count);
	// A line for people: retries, mirrors. May be NULL.
	void (*notice)(void *data, const char *text);
};

enum pull_policy {
	PULL_ALWAYS,  // ask the registry what the reference names now
	PULL_MISSING, // only if it is not here
	PULL_NEVER,
};

struct pull_options {
	const struct oci_reference *reference;
	const struct oci_platform *platform; // NULL: this machine's
	enum layer_format format;
	enum pull_policy policy;
	const struct registry_config *registries;
	struct layer_limits limits;
	unsigned workers; // layers converted at a time; 0: as many as cores, at most 4
	const struct pull_events *events; // may be NULL
	void *data;
	// NULL: signals do what they always do. Else SIGINT, SIGTERM and SIGHUP end the pull with
	// an error, and the number stands here (0: none came). They stay blocked afterwards, so
	// that one that comes late waits for whoever watches next.
	int *canceled;
};

struct pull_result {
	struct store_image image;
	uint64_t fetched; // bytes over the network
	bool pulled;	  // false: everything was here
};

// On success the image is recorded and `layers` holds leases on all its layers.
int pull_image(struct store *s, const struct pull_options *o, struct pull_result *result,
	struct store_layers *layers, struct error *err);
