// SPDX-License-Identifier: Apache-2.0
//
// What a node keeps of images, under one state directory:
//
//   layers/sha256/<diff id>.erofs      a layer as an EROFS image; immutable
//   layers/sha256/<diff id>.directory  a layer as a folder; immutable
//   blobs/sha256/<hex>                 manifests and image configurations
//   images/<sha256 of the reference>.json   which manifest a reference names here
//   parts/<blob hex>, parts/<blob hex>.map  downloads under way or broken off
//   tmp/                               what is being made; swept when its maker is gone
//
// Everything appears by rename after fsync, so a kill or a power cut at any instruction leaves the
// store usable with no repair step. What is in use is locked with flock(2): the lock goes with the
// process. Leases: LOCK_SH on the layer itself by whoever uses it; whoever removes it must get
// LOCK_EX.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "oci/image/config.h"
#include "oci/image/digest.h"
#include "oci/image/manifest.h"
#include "oci/image/reference.h"
#include "oci/layer/worker.h"

#include <stdbool.h>
#include <stdint.h>

struct store_limits {
	uint64_t high_bytes;	  // evict when layers take more; 0: no limit
	uint64_t low_bytes;	  // … until they take at most this
	uint64_t keep_free_bytes; // evict (or refuse) rather than leave the file system with less
	unsigned keep_free_inodes_percent;
};
extern const struct store_limits store_limits_default; // 0, 0, 1 GiB, 5 %

// How EROFS files are mounted (oci/runtime): from the file where the kernel can (Linux 6.12), else
// through a loop device; or one of the two by force.
enum layer_backing { LAYER_BACKING_AUTO, LAYER_BACKING_FILE, LAYER_BACKING_LOOP };

struct store {
	int state_fd, layers_fd, blobs_fd, images_fd, parts_fd, tmp_fd;
	int run_fd;		   // of the run directory: mounts and locks, gone after a boot
	char *state_dir, *run_dir; // absolute
	struct store_limits limits;
	enum layer_backing layer_backing; // AUTO unless the caller sets it
	// Held shared from the first document put until the image record that names them is there:
	// as long, prune removes no documents. -1: none.
	int documents_lock_fd;
};

// Makes the folders where missing (mode 0700) and sweeps what dead processes left. A read-only
// state directory still opens (for images, inspect); what writes then fails with its own error.
struct store *store_open(const char *state_dir, const char *run_dir,
	const struct store_limits *limits, struct error *err);
void store_free(struct store *s);

// ---- layers

struct store_layer {
	struct oci_digest diff_id;
	enum layer_format format;
	int fd;		// the file or folder, holding the lease (LOCK_SH); -1 in lists
	uint64_t bytes; // on disk; 0 for LAYER_DIRECTORY in leases: store_layer_bytes() counts
};

// Take a lease on a layer that is here. Returns 1 and fills *layer when found, 0 when not, -1 on
// error. In lookups for pulls `format` must match.
int store_layer_lease(struct store *s, const struct oci_digest *diff_id, enum layer_format format,
	struct store_layer *layer, struct error *err);
void store_layer_release(struct store_layer *layer); // fine on a zeroed one
// Bytes on disk (st_blocks); walks the directory form.
int store_layer_bytes(const struct store_layer *layer, uint64_t *bytes, struct error *err);

// A layer being made: a file or folder in tmp/, locked by us.
struct store_stage {
	enum layer_format format;
	int fd;	       // the empty file or folder to fill
	char name[64]; // in tmp/; "": none
};
int store_stage_new(
	struct store *s, enum layer_format format, struct store_stage *stage, struct error *err);
// Move it to layers/ (the maker has fsynced the content; this syncs the folder). Losing a race
// against the same layer is success. Either way the lease on the result is returned.
int store_stage_commit(struct store *s, struct store_stage *stage, const struct oci_digest *diff_id,
	struct store_layer *layer, struct error *err);
void store_stage_drop(
	struct store *s, struct store_stage *stage); // fine on a zeroed or committed one

// Single flight between processes: the right to make one layer. Returns 0 with the lock in
// *lock_fd, 1 when another process has it (try again later), -1 on error. Close the descriptor to
// give it up; the file goes with store_stage_commit() or the next store_open().
int store_layer_lock(
	struct store *s, const struct oci_digest *diff_id, int *lock_fd, struct error *err);

// ---- partial downloads

// Open parts/<hex> and its map for a blob (made when missing), for the caller alone: layers' locks
// do not exclude pulls of images that give one blob two diff ids or two sizes, and a map that is
// made anew under another's mapping would end that one by SIGBUS. Returns 0, 1 when another process
// has it (try again later), -1 on error. While `fd` (or a duplicate, in whatever process) is open
// the part is in use and neither pruned nor evicted.
int store_part_open(
	struct store *s, const struct oci_digest *blob, int *fd, int *map_fd, struct error *err);
void store_part_remove(struct store *s, const struct oci_digest *blob);

// ---- documents

// Store a document; one that is here with the same bytes costs a read. Until store_image_put() or
// store_free() nobody prunes documents, so put them just before the image record.
int store_document_put(struct store *s, const struct oci_digest *digest, const void *data,
	size_t size, struct error *err);
// Read and verify. ERROR_NOT_FOUND, ERROR_INTEGRITY (a damaged file; it is removed).
int store_document_get(struct store *s, const struct oci_digest *digest, size_t limit,
	struct buffer *data, struct error *err);

// ---- images

struct store_image {
	struct oci_reference reference;
	struct oci_digest manifest; // of the platform's manifest
	struct oci_digest config;
	struct oci_digest target; // what the registry names: the index's digest, or the manifest's
	struct oci_platform platform;
	enum layer_format format;
	int64_t pulled_ms, used_ms; // wall clock
};

int store_image_put(struct store *s, const struct store_image *image, struct error *err);
// ERROR_NOT_FOUND: "image docker.io/library/x:latest is not here; pull it with: stoker pull x".
int store_image_get(struct store *s, const struct oci_reference *reference,
	struct store_image *image, struct error *err);
void store_image_touch(struct store *s, const struct oci_reference *reference); // used now
int store_image_remove(struct store *s, const struct oci_reference *reference, struct error *err);
// All images, most recently used first; an arena array.
int store_image_list(struct store *s, struct arena *a, struct store_image **images, size_t *count,
	struct error *err);
// The stored manifest and configuration, parsed and checked against each other (as many diff ids as
// layers).
int store_image_load(struct store *s, const struct store_image *image, struct arena *a,
	struct oci_manifest *manifest, struct oci_config *config, struct error *err);
// Leases on all layers of an image, lowest first. ERROR_NOT_FOUND names the missing layer.
struct store_layers {
	struct store_layer *items;
	size_t count;
};
int store_image_lease(struct store *s, const struct store_image *image, struct store_layers *layers,
	struct error *err);
void store_layers_release(struct store_layers *layers);

// The name, as if it were a diff id, of the layer that is made of an image's layers (lowest first)
// to go on top of them: oci/runtime/parents.h. It is needed by the images with these layers.
struct oci_digest store_parents_id(
	const struct oci_digest *diff_ids, size_t count, enum layer_format format);

// ---- space (evict.c)

// Make room for `bytes` and `inodes` more: evict least recently used images and the layers that
// only they need, never what is leased. ERROR_LIMIT, with nothing evicted, when even that would not
// do: "needs 21 GB, 9.0 GB free; evicting a and b would give 3.1 GB".
int store_make_room(struct store *s, uint64_t bytes, uint64_t inodes, struct error *err);

struct store_usage {
	uint64_t layer_bytes, layer_count, part_bytes, image_count;
	uint64_t free_bytes, free_inodes; // of the file system
};
int store_usage(struct store *s, struct store_usage *usage, struct error *err);

struct store_prune_options {
	bool all;	       // images too, not only what no image needs
	int64_t unused_for_ms; // only images not used for so long
	bool keep_parts;       // leave broken-off downloads for the next pull
	bool dry_run;
};
struct store_prune_report {
	uint64_t images, layers, parts, bytes;
};
// Remove layers and documents that no image names, broken-off downloads, and (all) images. What is
// leased stays.
int store_prune(struct store *s, const struct store_prune_options *o,
	struct store_prune_report *report, struct error *err);

DEFINE_CLEANUP(store_free, struct store *, store_free)
#define cleanup_store	     __attribute__((cleanup(store_freep)))
#define cleanup_store_layer  __attribute__((cleanup(store_layer_release)))
#define cleanup_store_layers __attribute__((cleanup(store_layers_release)))
