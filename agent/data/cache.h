// SPDX-License-Identifier: Apache-2.0
//
// What inputs leave on this disk, below <state>/datasets:
//
//   objects/ urls/ parts/ locks/   downloads (download.h)
//   trees/<digest>/                an input as a folder, immutable; named by what it is made of
//   private/<random>/              a copy that one job may change
//   building/<digest>              single flight of making a tree, by flock(2)
//   tmp/<random>/                  trees being made
//
// Leases are LOCK_SH on the folder or file itself, as for layers: whoever removes it must get
// LOCK_EX. A tree appears by rename, after everything in it is on the disk.
#pragma once

#include "agent/data/data.h"

#include <time.h>

struct cache {
	int state_fd; // not owned
	int fd, trees_fd, private_fd, building_fd, tmp_fd;
	struct cache_limits limits;
};

// Makes the folders and sweeps what dead processes left: half-made trees, private copies of jobs
// that are over.
int cache_open(struct cache *c, int state_fd, const struct cache_limits *limits, struct error *err);
void cache_close(struct cache *c); // fine on one that failed to open

// A lease on a tree: 1 with *fd, 0 (it is not here), -1.
int cache_tree_lease(struct cache *c, const char *digest, int *fd, struct error *err);
// The same for whatever data_ready.kept names.
int cache_kept_lease(int state_fd, const char *kept, int *fd, struct error *err);

// A folder being made in tmp/, leased by us.
struct cache_stage {
	int fd;
	char name[64];
};
int cache_stage_new(struct cache *c, struct cache_stage *s, struct error *err);
// Sync and give it its place; *fd is the lease. Losing a race against the same is success.
int cache_stage_commit(
	struct cache *c, struct cache_stage *s, const char *digest, int *fd, struct error *err);
// Give it a place of its own, "datasets/private/…" in `kept`.
int cache_stage_keep_private(
	struct cache *c, struct cache_stage *s, char kept[96], int *fd, struct error *err);
void cache_stage_drop(struct cache *c, struct cache_stage *s); // fine on one that is gone

// The right to make a tree: 0 with *fd, 1 when another process has it, -1. The file goes with it.
int cache_building_lock(struct cache *c, const char *digest, int *fd, struct error *err);
void cache_building_unlock(struct cache *c, const char *digest, int *fd);

// Note what a tree takes: bytes of its own, and of downloads that it shares. Where the file system
// keeps no attributes it counts as nothing.
void cache_tree_record(int fd, uint64_t own, uint64_t linked);
// Over the limit: the least recently used trees go. Their downloads then are nobody's, and go when
// the next one needs the room.
int cache_keep_limits(struct cache *c, struct error *err);
// Trees, the least recently used first; an arena array.
struct cache_tree {
	const char *name;
	struct timespec used;
};
int cache_trees(struct cache *c, struct arena *a, struct cache_tree **trees, size_t *count,
	struct error *err);
// Remove a tree that nobody uses: 1; 0: it is used.
int cache_tree_remove(struct cache *c, const char *name);
// Remove the least recently used trees until `bytes` more can be had. Objects whose only other use
// they are become free to go with them. 0 whether or not there was enough.
int cache_evict_trees(struct cache *c, uint64_t bytes, struct error *err);
// Is there room for `bytes` more? 0; 1 with the text; -1.
int cache_check_room(struct cache *c, uint64_t bytes, struct error *err);
