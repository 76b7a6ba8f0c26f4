// SPDX-License-Identifier: Apache-2.0
//
// Pins: layers in use with no process behind them, because `stoker image mount` keeps a view of an
// image until `image unmount`. One record per mount, <run>/mounts/<sha256 of the folder's
// path>.json; a record of an earlier boot means nothing, whatever file system the run directory is
// on.
#pragma once

#include "oci/store/store.h"

enum { PIN_NAME_SIZE = 80, PIN_BYTES_MAX = 256 * 1024 };

struct pin_layer {
	struct oci_digest diff_id;
	enum layer_format format;
};

struct pin {
	char name[PIN_NAME_SIZE]; // of the record, in <run>/mounts
	const char *directory;	  // absolute, links resolved
	const char *reference;	  // of the image
	uint64_t device;	  // st_dev of what is mounted there
	uint64_t mount_id;	  // stx_mnt_id
	uint64_t mount_namespace; // where the mount is seen: inode of /proc/self/ns/mnt
	struct pin_layer *layers;
	size_t layer_count;
};

// Write the record and fill its name in. *fd holds it open and locked (LOCK_SH) until the mount is
// in place: as long it is not taken for stale (rootfs_sweep).
int pin_write(struct store *s, struct pin *pin, int *fd, struct error *err);
// The pin of a folder. 1 found, 0 not, -1.
int pin_find(struct store *s, const char *directory, struct arena *a, struct pin *pin,
	struct error *err);
void pin_remove(struct store *s, const struct pin *pin);
// All pins of this boot; an arena array. Records that cannot be read (ours are written whole) or
// are of an earlier boot are left out.
int pin_list(struct store *s, struct arena *a, struct pin **pins, size_t *count, struct error *err);
// Is a layer pinned? 1, 0 or -1.
int pin_find_layer(struct store *s, const struct oci_digest *diff_id, enum layer_format format,
	struct error *err);
uint64_t pin_mount_namespace(void); // ours; 0 if unknown
