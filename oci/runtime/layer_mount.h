// SPDX-License-Identifier: Apache-2.0
//
// One EROFS file mounted at one place, and the lock that counts who uses it.
//
// The mount is read-only, nosuid and nodev, so that a set-uid file or a device of an image is of no
// use to anybody who reaches it below the run directory. An overlay on top is not bound by these:
// it opens the files itself and goes by the flags of its own mount.
#pragma once

#include "oci/store/store.h"

// Mount the layer's file at <run>/layers/<hex> and mark it as used: *lock_fd holds the lock
// (LOCK_SH). Somebody else may be doing the same, or have been killed in the midst of it.
int layer_mount_use(
	struct store *s, const struct store_layer *layer, int *lock_fd, struct error *err);
// Give up a lock from layer_mount_use(); the last user unmounts, unless the layer is pinned.
void layer_mount_release(struct store *s, const struct oci_digest *diff_id, int lock_fd);
// The root of the mounted layer, O_PATH. While it is open the layer cannot be unmounted.
int layer_mount_open(struct store *s, const struct oci_digest *diff_id, struct error *err);
// Unmount all that nobody uses, whoever mounted it.
void layer_mount_sweep(struct store *s);
