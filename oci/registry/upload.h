// SPDX-License-Identifier: Apache-2.0
//
// A blob into a repository (OCI distribution-spec v1.1, "Pushing blobs"): not at all if it is
// there; mounted from another repository of the registry if it is there; else uploaded, in chunks
// if it is large, so that after a failure only the rest is sent again. Where a registry does not
// say how much it has, from the start.
#pragma once

#include "oci/registry/client.h"

enum { UPLOAD_CHUNK = 64 * 1024 * 1024 };

struct upload_options {
	struct oci_digest digest;
	uint64_t size;
	int fd; // a regular file, for as long as the upload lasts; -1: only look and mount
	const char *from; // repository to mount it from; NULL
};

struct upload_events {
	void (*progress)(void *data, uint64_t bytes); // that are there
	void (*notice)(void *data, const char *text);
	// Once. Without an error: is it there now? (Always, if there was a file.)
	void (*done)(void *data, bool present, const struct error *err);
};

void upload_start(struct registry_client *c, const struct upload_options *o,
	const struct upload_events *events, void *data);
