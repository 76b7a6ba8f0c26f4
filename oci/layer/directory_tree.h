// SPDX-License-Identifier: Apache-2.0
//
// The folders of a layer that is unpacked into a directory: how a path from the archive is reached,
// and what is set on folders when all their children are there.
//
// Every open is openat2(2) from the layer's folder with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS.
// Symbolic links of this layer that stand in the way are followed here, one by one and inside the
// root, as the EROFS form does: the kernel never follows one, so none leads out.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "oci/layer/steps.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// What a folder gets at the end. While the archive passes it is ours and writable, whatever its
// mode.
struct directory_record {
	const char *path; // resolved; in the arena
	int64_t mtime;
	uint32_t mtime_nsec;
	mode_t mode;
	uint32_t depth;
	uint32_t sequence; // of two records for one path the later one holds
};

// Names of attributes.
struct directory_marks {
	const char *opaque, *implicit, *below, *whiteouts; // oci/layer/mark.h
};

struct directory_tree {
	int root;			     // the caller's
	const struct directory_marks *marks; // by form
	bool below;			     // one was made that no entry had named
	struct arena arena;
	struct directory_record *records;
	size_t record_count, record_capacity;
	uint64_t memory, memory_limit;
	struct steps steps;
	// The folder that was opened last.
	int last;
	char last_path[PATH_MAX], last_resolved[PATH_MAX];
};

// Where an entry goes. Valid until the next call for the tree.
struct directory_place {
	int parent;	      // folder
	const char *name;     // the last component, inside the path; "" for the root itself
	const char *resolved; // path of the parent without symbolic links
};

void directory_tree_init(struct directory_tree *t, int root, const struct directory_marks *marks,
	uint64_t memory_limit);
void directory_tree_release(struct directory_tree *t);

// Open the folder at `path`; missing ones are made. `*fd` is the tree's. ERROR_INVALID where
// something stands in the way that is no folder, ERROR_LIMIT when the layer has taken too many
// steps (steps.h).
int directory_tree_open(struct directory_tree *t, const char *path, int *fd, struct error *err);
int directory_tree_place(struct directory_tree *t, const char *path, struct directory_place *place,
	struct error *err);

// Make or keep the folder at a place and remember its mode and time. `*fd` is the caller's to
// close.
int directory_tree_make(struct directory_tree *t, const struct directory_place *place, mode_t mode,
	int64_t mtime, uint32_t mtime_nsec, int *fd, struct error *err);

// Remove what stands at a place, folders with all below. Nothing there is fine.
int directory_tree_clear(
	struct directory_tree *t, const struct directory_place *place, struct error *err);

// The folder holds a whiteout (oci/layer/mark.h).
int directory_tree_set_whiteouts(struct directory_tree *t, int fd, struct error *err);

// Hide what lower layers have in the folder (overlayfs).
int directory_tree_set_opaque(struct directory_tree *t, int fd, struct error *err);

// Set modes and times of all folders, deepest first.
int directory_tree_apply(struct directory_tree *t, struct error *err);
