// SPDX-License-Identifier: Apache-2.0
//
// An artifact of a registry (OCI image-spec 1.1, "Guidelines for Artifact Usage"; as ORAS makes
// them): a manifest whose blobs are files. Fetched by the registry's own helper process; every byte
// is hashed here.
#pragma once

#include "agent/data/source.h"
#include "base/arena.h"
#include "base/loop.h"
#include "oci/registry/fetcher.h"
#include "oci/store/store.h"

struct artifact_blob {
	struct oci_digest digest;
	uint64_t size, fetched, here;
	const char *title; // its name; without a title its digest
	int fd, map_fd;	   // of its part in the store
};

struct artifact {
	struct store *store;
	const struct registry_config *registries;
	const struct oci_reference *reference;
	int (*progress)(void *data, uint64_t done, uint64_t total); // other than 0: give up
	void *data;
	// Found by artifact_look().
	struct oci_digest manifest;
	struct artifact_blob *blobs;
	size_t count;
	uint64_t size, fetched; // bytes in all
	// Its own.
	struct arena arena;
	struct loop *loop;
	struct fetcher *fetcher;
	size_t left;
	struct error error;
};

// Ask the registry what the reference names: 1 an artifact, 0 an image or an index of images.
int artifact_look(struct artifact *a, struct error *err);
// All blobs into parts of the store, hashed; what was broken off is gone on with.
int artifact_fetch(struct artifact *a, struct error *err);
// The parts have been used.
void artifact_forget(struct artifact *a);
void artifact_release(struct artifact *a); // parts stay for the next time

// The name of the folder made of it.
void artifact_tree_digest(const struct oci_digest *manifest, enum data_unpack unpack, char hex[65]);

#define cleanup_artifact __attribute__((cleanup(artifact_release)))
