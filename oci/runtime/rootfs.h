// SPDX-License-Identifier: Apache-2.0
//
// The root file system of a container: every layer mounted once per node below the run directory,
// an overlay on top with a private upper directory, or read-only without one.
//
//   <run>/layers/<diff id>/      the mount; <diff id>.lock counts its users by flock(2)
//   <run>/mounts/<name>.json     what `stoker image mount` keeps until `image unmount`
//
// A layer's mount outlives the process that made it while anybody uses it and is unmounted by the
// last user, or by whoever comes next when users were killed (rootfs_sweep).
#pragma once

#include "oci/store/store.h"

struct rootfs_layers; // the mounts of one image's layers, in use by us

// Can this kernel mount EROFS (loading its module if need be)?
bool rootfs_has_erofs(void);

// Mount what is not mounted yet and mark all as used by us. `layers` lowest first; their leases are
// held on as well, so the caller may release his. The store must outlive the result. A layer whose
// bytes the kernel does not take is ERROR_INTEGRITY.
struct rootfs_layers *rootfs_layers_acquire(
	struct store *s, const struct store_layers *layers, struct error *err);
// What is mounted, lowest first: the image's layers, each once, and perhaps the one of parents.h.
size_t rootfs_layers_count(const struct rootfs_layers *l);
const struct oci_digest *rootfs_layers_get(
	const struct rootfs_layers *l, size_t i, enum layer_format *format);
// Stop using them; unmounts those that nobody else uses. NULL is fine.
void rootfs_layers_release(struct rootfs_layers *l);

struct rootfs_overlay {
	int scratch_fd; // with the empty folders upper/ and work/; -1: read-only
	bool userxattr; // layers in the unprivileged directory form
	// A user namespace whose ids the layers' files get (user_namespace_new()); -1: as they are.
	// upper/ must belong to its root. Fails with ERROR_SYSTEM and EINVAL where a file system or
	// this kernel (before Linux 5.19) cannot.
	int userns_fd;
	bool foreign; // called in another mount namespace than the layers were acquired in
};
// A detached overlay mount of the layers (fsmount(2), or mount(2) and open_tree(2) on old kernels):
// returns its descriptor, to be placed with move_mount(2). Neither nosuid nor nodev: that is the
// container's to decide. An image without layers is an empty folder.
int rootfs_overlay_mount(struct store *s, const struct rootfs_layers *l,
	const struct rootfs_overlay *o, struct error *err);

// `stoker image mount`: a read-only view at `directory` that stays when we exit, and its removal.
int rootfs_image_mount(
	struct store *s, const struct store_image *image, const char *directory, struct error *err);
int rootfs_image_unmount(struct store *s, const char *directory, struct error *err);

// Unmount layers that no process uses and no image mount needs; forget image mounts that were
// unmounted by other means. With nothing mounted this is one look into an empty folder.
void rootfs_sweep(struct store *s);
