// SPDX-License-Identifier: Apache-2.0
//
// Blobs into files. A blob is fetched in segments of whole chunks (oci/registry/part.h), in
// ascending order and never far ahead of what is complete from the front, because the layer worker
// reads there. One connection is the cheapest and is where each blob starts; when it proves slow,
// more are added, up to the limit that all blobs share.
#pragma once

#include "oci/image/digest.h"
#include "oci/registry/request.h"

#include <stdint.h>

enum {
	DOWNLOAD_WINDOW = 64 * 1024 * 1024, // how far ahead of the front a segment may begin
	DOWNLOAD_PROGRESS_BYTES = 256 * 1024,
	DOWNLOAD_PROGRESS_MS = 50,
};

struct download;

struct downloads {
	struct registry_client *client;
	struct download *first; // in the order of their start
	size_t lanes;		// connections in use
	size_t lanes_max;
	int64_t rate_since; // monotonic ms: the span over which the rate is measured
	uint64_t rate_bytes;
	uint64_t rate;	     // of the last span, bytes a second
	size_t lanes_wanted; // for one blob; grows while the rate is low
};

struct download_events {
	void (*progress)(void *data, uint32_t id, uint64_t contiguous, uint64_t fetched);
	void (*notice)(void *data, uint32_t id, const char *text);
	// Once, save after download_cancel(). err NULL: every byte is in the file.
	void (*done)(void *data, uint32_t id, const struct error *err);
};

void downloads_init(struct downloads *d, struct registry_client *client);
void downloads_release(struct downloads *d);

// Takes both descriptors, also on failure. Fails where the map cannot be opened.
int download_start(struct downloads *d, uint32_t id, const struct oci_digest *digest, uint64_t size,
	int fd, int map_fd, const struct download_events *events, void *data, struct error *err);
void download_cancel(struct downloads *d, uint32_t id);

// Start what can be started, tell about progress and ends. Call it once per turn, behind the
// client's.
void downloads_turn(struct downloads *d);
// When to call it next at the latest: monotonic ms, INT64_MAX if only descriptors matter.
int64_t downloads_deadline(const struct downloads *d);
