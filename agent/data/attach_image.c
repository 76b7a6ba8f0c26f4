// SPDX-License-Identifier: Apache-2.0
// An image of a registry as an input: its merged tree, read-only, as its layers lie in the store.
#include "agent/data/mount.h"
#include "base/file.h"
#include "base/text.h"

#include <fcntl.h>
#include <sys/mount.h>

// data_prepare() gives trees by their path, and images by their reference.
bool attach_is_image(const struct data_ready *ready)
{
	return ready && ready->kept && !starts_with(ready->kept, "datasets/");
}

int attach_image(struct data_mount *m, const struct data_options *o, struct error *err)
{
	const struct rootfs_overlay overlay = {.scratch_fd = -1, .userns_fd = -1};
	cleanup_store_layers struct store_layers layers = {0};
	struct oci_reference reference;
	struct store_image image;
	if (oci_reference_parse(m->ready->kept, &reference, err) < 0 ||
		store_image_get(o->store, &reference, &image, err) < 0 ||
		store_image_lease(o->store, &image, &layers, err) < 0)
		return -1;
	m->layers = rootfs_layers_acquire(o->store, &layers, err);
	if (!m->layers)
		return -1;
	cleanup_fd int mount_fd = rootfs_overlay_mount(o->store, m->layers, &overlay, err);
	if (mount_fd < 0)
		return -1;
	if (move_mount(mount_fd, "", AT_FDCWD, m->path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_set_errno(err, errno, "mount the image %s", m->ready->kept);
	m->mounted = true;
	return 0;
}
