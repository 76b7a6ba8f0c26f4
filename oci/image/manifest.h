// SPDX-License-Identifier: Apache-2.0
//
// Image manifests and indexes: OCI image-spec v1 and Docker image manifest v2, schema 2 with
// manifest lists. Both kinds become the same structs. Schema 1 is refused by name.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "oci/image/digest.h"
#include "oci/image/platform.h"

#include <stdint.h>

enum {
	OCI_MANIFEST_BYTES_MAX = 4 * 1024 * 1024, // what registries accept as well
	OCI_LAYERS_MAX = 500,			  // overlayfs stops there
	OCI_INDEX_ENTRIES_MAX = 1000,
};

enum oci_compression { OCI_COMPRESSION_NONE, OCI_COMPRESSION_GZIP, OCI_COMPRESSION_ZSTD };

struct oci_descriptor {
	const char *media_type;
	struct oci_digest digest;
	uint64_t size; // bytes
};

struct oci_layer_descriptor {
	struct oci_descriptor descriptor;
	enum oci_compression compression;
};

struct oci_index_entry {
	struct oci_descriptor descriptor;
	bool has_platform;
	struct oci_platform platform;
};

enum oci_manifest_kind { OCI_MANIFEST_IMAGE, OCI_MANIFEST_INDEX };

struct oci_manifest {
	enum oci_manifest_kind kind;
	// OCI_MANIFEST_IMAGE
	struct oci_descriptor config;
	struct oci_layer_descriptor *layers; // lowest first
	size_t layer_count;
	// OCI_MANIFEST_INDEX
	struct oci_index_entry *entries;
	size_t entry_count;
};

// Parse a manifest or an index of either family. `media_type` is the Content-Type of the answer
// (may be NULL); the document's own mediaType wins; one that is neither is told by its members.
// Refused with ERROR_INVALID and a reason: schema 1, artifact configurations that are no image,
// foreign (nondistributable) layers, layer types we do not know, negative or huge sizes; more
// layers or entries than the limits: ERROR_LIMIT. Everything lives in the arena.
int oci_manifest_parse(struct arena *a, const char *data, size_t size, const char *media_type,
	struct oci_manifest *m, struct error *err);

// The best entry for a platform, the first of equals. Never chosen: attestations (unknown/unknown),
// entries whose type is no manifest's, and entries without a platform, unless it is the only one.
// The entry may be an index again (descriptor.media_type does not tell reliably: parse it, and
// bound the depth). ERROR_NOT_FOUND names the platforms that exist.
int oci_index_choose(const struct oci_manifest *index, const struct oci_platform *want,
	const struct oci_index_entry **entry, struct error *err);

// Accept header for manifest requests: all media types we parse, in order of preference.
extern const char *const oci_manifest_accept;
