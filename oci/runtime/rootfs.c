// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/rootfs.h"

#include "base/file.h"
#include "oci/runtime/container_internal.h"
#include "oci/runtime/image_mount.h"
#include "oci/runtime/layer_mount.h"
#include "oci/runtime/overlay.h"
#include "oci/runtime/parents.h"

#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

struct rootfs_layer {
	struct oci_digest diff_id;
	enum layer_format format;
	int lease_fd; // the file or folder
	int lock_fd;  // of the mount; -1 for a folder
};

struct rootfs_layers {
	struct store *store;
	size_t count;
	struct rootfs_layer items[];
};

static int layer_use(struct store *s, const struct store_layer *layer, struct rootfs_layer *used,
	struct error *err)
{
	cleanup_fd int lease = fcntl(layer->fd, F_DUPFD_CLOEXEC, 3);
	int lock = -1;
	if (lease < 0)
		return error_set_errno(err, errno, "layer %s", layer->diff_id.text);
	if (layer->format == LAYER_EROFS && layer_mount_use(s, layer, &lock, err) < 0)
		return -1;
	*used = (struct rootfs_layer){
		.diff_id = layer->diff_id,
		.format = layer->format,
		.lease_fd = steal_fd(&lease),
		.lock_fd = lock,
	};
	return 0;
}

// An image may hold one layer twice, and overlayfs refuses one folder twice. The upper one stands
// for both: whatever the lower one would show, the upper one shows above it.
static bool stands_again_above(const struct store_layers *layers, size_t i)
{
	for (size_t j = i + 1; j < layers->count; j++)
		if (oci_digest_equal(&layers->items[i].diff_id, &layers->items[j].diff_id))
			return true;
	return false;
}

// Top first. EROFS layers are opened (they are the caller's to close), folders are their leases.
static int lower_folders(
	struct store *s, const struct rootfs_layers *l, int *fds, bool *owned, struct error *err)
{
	for (size_t i = 0; i < l->count; i++) {
		const struct rootfs_layer *layer = &l->items[l->count - 1 - i];
		owned[i] = layer->format == LAYER_EROFS;
		fds[i] = owned[i] ? layer_mount_open(s, &layer->diff_id, err) : layer->lease_fd;
		if (fds[i] < 0)
			return -1;
	}
	return 0;
}

static void close_folders(size_t count, const int *fds, const bool *owned)
{
	for (size_t i = 0; i < count; i++)
		if (owned[i] && fds[i] >= 0)
			close(fds[i]);
}

// On top of the layers goes the one that parents.h makes of them, where they need it.
static int use_parents(struct store *s, const struct store_layers *layers, struct rootfs_layers *l,
	struct error *err)
{
	cleanup_store_layer struct store_layer parents = {.fd = -1};
	if (l->count < 2)
		return 0;
	cleanup_free int *fds = xcalloc(l->count, sizeof(*fds));
	cleanup_free bool *owned = xcalloc(l->count, sizeof(*owned));
	cleanup_free struct oci_digest *diff_ids = xcalloc(layers->count, sizeof(*diff_ids));
	for (size_t i = 0; i < layers->count; i++)
		diff_ids[i] = layers->items[i].diff_id;
	struct parents_source source = {
		.format = layers->items[0].format, .roots = fds, .count = l->count};
	source.id = store_parents_id(diff_ids, layers->count, source.format);
	int needed = lower_folders(s, l, fds, owned, err);
	if (needed == 0)
		needed = parents_lease(s, &source, &parents, err);
	close_folders(l->count, fds, owned);
	if (needed <= 0)
		return needed;
	if (l->count >= OCI_LAYERS_MAX)
		return error_set(err, ERROR_LIMIT,
			"the image has %zu layers and needs one more for the attributes of its "
			"directories; overlayfs takes %d",
			l->count, OCI_LAYERS_MAX);
	if (layer_use(s, &parents, &l->items[l->count], err) < 0)
		return -1;
	l->count++;
	return 0;
}

struct rootfs_layers *rootfs_layers_acquire(
	struct store *s, const struct store_layers *layers, struct error *err)
{
	struct rootfs_layers *l =
		xcalloc(1, sizeof(*l) + (layers->count + 1) * sizeof(l->items[0]));
	l->store = s;
	for (size_t i = 0; i < layers->count; i++) {
		if (stands_again_above(layers, i))
			continue;
		if (layer_use(s, &layers->items[i], &l->items[l->count], err) < 0) {
			rootfs_layers_release(l);
			return NULL;
		}
		l->count++;
	}
	if (use_parents(s, layers, l, err) < 0) {
		rootfs_layers_release(l);
		return NULL;
	}
	return l;
}

size_t rootfs_layers_count(const struct rootfs_layers *l)
{
	return l->count;
}

const struct oci_digest *rootfs_layers_get(
	const struct rootfs_layers *l, size_t i, enum layer_format *format)
{
	*format = l->items[i].format;
	return &l->items[i].diff_id;
}

void rootfs_layers_release(struct rootfs_layers *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->count; i++) {
		// The mount before the lease: what is mounted is leased.
		if (l->items[i].lock_fd >= 0)
			layer_mount_release(l->store, &l->items[i].diff_id, l->items[i].lock_fd);
		close(l->items[i].lease_fd);
	}
	free(l);
}

// The folder that stands for no layer, and below a single one: overlayfs wants two folders, and
// only an overlay hides whiteouts.
static int open_empty(struct store *s, struct error *err)
{
	if (mkdirat(s->run_fd, "layers/empty", 0755) < 0 && errno != EEXIST)
		return error_set_errno(err, errno, "make %s/layers/empty", s->run_dir);
	int fd = openat(s->run_fd, "layers/empty", O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return error_set_errno(err, errno, "open %s/layers/empty", s->run_dir);
	return fd;
}

static int clone_empty(int fd, struct error *err)
{
	cleanup_fd int tree =
		open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return error_set_errno(err, errno, "mount an empty root");
	return steal_fd(&tree);
}

// The layers as detached mounts of their own, with the ids of the container; what is mounted for
// all stays as it is. What is written goes to the scratch folder with the ids as they are outside:
// the overlay acts there as who mounted it, who is not among the container's.
static int map_ids(struct overlay *o, int *fds, bool *owned, int userns_fd, struct error *err)
{
	static const struct mount_words words = {0};
	for (size_t i = 0; i < o->lower_count; i++) {
		int tree = container_clone_tree(fds[i], "", &words, userns_fd, err);
		if (owned[i])
			close_fdp(&fds[i]);
		owned[i] = tree >= 0;
		fds[i] = tree;
		if (tree < 0)
			return error_context(err, "a layer");
	}
	o->detached = true;
	return 0;
}

static int mount_lower(struct store *s, const struct rootfs_layers *l,
	const struct rootfs_overlay *o, int *fds, bool *owned, int empty, struct error *err)
{
	if (lower_folders(s, l, fds, owned, err) < 0)
		return -1;
	struct overlay overlay = {
		.lower_fds = fds,
		.lower_count = l->count,
		.scratch_fd = o->scratch_fd,
		.userxattr = o->userxattr,
		.foreign = o->foreign,
	};
	if (l->count < 2 && (l->count == 0 || o->scratch_fd < 0))
		fds[overlay.lower_count++] = empty;
	cleanup_free char *folder = path_join(s->run_dir, "layers/empty");
	if (o->userns_fd < 0)
		return overlay_mount(&overlay, folder, err);
	if (map_ids(&overlay, fds, owned, o->userns_fd, err) < 0)
		return -1;
	return overlay_mount(&overlay, folder, err);
}

int rootfs_overlay_mount(struct store *s, const struct rootfs_layers *l,
	const struct rootfs_overlay *o, struct error *err)
{
	cleanup_fd int empty = open_empty(s, err);
	if (empty < 0)
		return -1;
	if (l->count == 0 && o->scratch_fd < 0)
		return clone_empty(empty, err);
	cleanup_free int *fds = xcalloc(l->count + 1, sizeof(*fds));
	cleanup_free bool *owned = xcalloc(l->count + 1, sizeof(*owned));
	int mounted = mount_lower(s, l, o, fds, owned, empty, err);
	close_folders(l->count + 1, fds, owned);
	return mounted;
}

void rootfs_sweep(struct store *s)
{
	image_mount_sweep(s);
	layer_mount_sweep(s);
}
