// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/image_mount.h"

#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/layer_mount.h"
#include "oci/runtime/rootfs.h"
#include "oci/store/entries.h"
#include "oci/store/pin.h"

#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void rootfs_layers_releasep(struct rootfs_layers **l)
{
	rootfs_layers_release(*l);
}

// The folder, opened, and its path without links: what the pin is named by.
static int open_target(const char *directory, char path[PATH_MAX], struct error *err)
{
	char name[32];
	cleanup_fd int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "mount point %s", directory);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(name, path, PATH_MAX - 1);
	if (n < 0)
		return error_set_errno(err, errno, "mount point %s", directory);
	path[n] = '\0';
	return steal_fd(&fd);
}

static int identify(int fd, struct pin *pin, struct error *err)
{
	struct statx st;
	if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_MNT_ID, &st) <
		0)
		return error_set_errno(err, errno, "statx of a mount");
	pin->device = makedev(st.stx_dev_major, st.stx_dev_minor);
	pin->mount_id = st.stx_mask & STATX_MNT_ID ? st.stx_mnt_id : 0;
	return 0;
}

// Is the pin's mount still at its place? Only to be asked in its mount namespace.
static bool is_live(const struct pin *pin)
{
	struct pin now = {0};
	struct error ignored;
	cleanup_fd int fd = open(pin->directory, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd >= 0 && identify(fd, &now, &ignored) == 0 && now.device == pin->device &&
	       now.mount_id == pin->mount_id;
}

// Mounts, unmounts and the sweep take turns, because each looks at a folder and its record first
// and acts on what it saw. Before anything is opened: a descriptor of the folder would keep it busy
// for the one whose turn it is.
static int take_turn(struct store *s, int *fd, struct error *err)
{
	cleanup_fd int mounts = directory_open(s->run_fd, "mounts", err);
	if (mounts < 0 || file_lock(mounts, LOCK_EX, "mounts", err) < 0)
		return error_context(err, "%s", s->run_dir);
	*fd = steal_fd(&mounts);
	return 0;
}

static int refuse_mounted(struct store *s, const char *path, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct pin pin;
	int found = pin_find(s, path, &a, &pin, err);
	if (found <= 0)
		return found;
	if (pin.mount_namespace != pin_mount_namespace() || is_live(&pin))
		return error_set(err, ERROR_INVALID,
			"%s shows image %s already; unmount it first: stoker image unmount %s",
			path, pin.reference, path);
	return 0; // its record is replaced
}

// The record first: a mount without one would not keep its layers. *record stays open, locked,
// until the mount is in place.
static int place(struct store *s, int mounted, int target, struct pin *pin, struct error *err)
{
	cleanup_fd int record = -1;
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
	// Anybody may look inside; nobody gains by it.
	if (mount_setattr(mounted, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return error_set_errno(err, errno, "mount_setattr");
	if (identify(mounted, pin, err) < 0 || pin_write(s, pin, &record, err) < 0)
		return -1;
	if (move_mount(mounted, "", target, "",
		    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0)
		return 0;
	int sys = errno;
	pin_remove(s, pin);
	return error_set_errno(err, sys, "mount on %s", pin->directory);
}

int rootfs_image_mount(
	struct store *s, const struct store_image *image, const char *directory, struct error *err)
{
	cleanup_store_layers struct store_layers layers = {0};
	__attribute__((cleanup(rootfs_layers_releasep))) struct rootfs_layers *used = NULL;
	char path[PATH_MAX], reference[OCI_REFERENCE_TEXT_MAX];
	cleanup_fd int turn = -1;
	if (take_turn(s, &turn, err) < 0)
		return -1;
	cleanup_fd int target = open_target(directory, path, err);
	if (target < 0 || refuse_mounted(s, path, err) < 0 ||
		store_image_lease(s, image, &layers, err) < 0)
		return -1;
	used = rootfs_layers_acquire(s, &layers, err);
	if (!used)
		return -1;
	const struct rootfs_overlay overlay = {
		.scratch_fd = -1,
		.userns_fd = -1,
		.userxattr = image->format == LAYER_DIRECTORY && geteuid() != 0,
	};
	cleanup_fd int mounted = rootfs_overlay_mount(s, used, &overlay, err);
	if (mounted < 0)
		return -1;
	size_t count = rootfs_layers_count(used);
	cleanup_free struct pin_layer *pinned = xcalloc(count, sizeof(*pinned));
	for (size_t i = 0; i < count; i++)
		pinned[i].diff_id = *rootfs_layers_get(used, i, &pinned[i].format);
	struct pin pin = {
		.directory = path,
		.reference = oci_reference_format(&image->reference, reference),
		.mount_namespace = pin_mount_namespace(),
		.layers = pinned,
		.layer_count = count,
	};
	return place(s, mounted, target, &pin, err);
}

int rootfs_image_unmount(struct store *s, const char *directory, struct error *err)
{
	cleanup_arena struct arena a = {0};
	char path[PATH_MAX];
	struct pin pin;
	cleanup_fd int turn = -1;
	if (take_turn(s, &turn, err) < 0)
		return -1;
	cleanup_fd int target = open_target(directory, path, err);
	if (target < 0)
		return -1;
	// An open descriptor would keep the mount busy.
	close_fdp(&target);
	target = -1;
	int found = pin_find(s, path, &a, &pin, err);
	if (found < 0)
		return -1;
	if (!found)
		return error_set(
			err, ERROR_INVALID, "%s is not a mount of stoker image mount", path);
	if (pin.mount_namespace != pin_mount_namespace())
		return error_set(
			err, ERROR_INVALID, "%s was mounted in another mount namespace", path);
	// Unmounted by other means, and perhaps something else mounted there: only the record is
	// ours.
	if (is_live(&pin) && umount2(path, UMOUNT_NOFOLLOW) < 0)
		return errno == EBUSY ? error_set(err, ERROR_INVALID,
						"%s is in use: a process has its working folder or "
						"an open file in it",
						path)
				      : error_set_errno(err, errno, "unmount %s", path);
	pin_remove(s, &pin);
	layer_mount_sweep(s);
	return 0;
}

void image_mount_sweep(struct store *s)
{
	cleanup_arena struct arena a = {0};
	struct store_names names;
	struct pin *pins;
	size_t count;
	struct error ignored;
	cleanup_fd int mounts = openat(s->run_fd, "mounts", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	// Whoever has the turn is at work there; the next start sweeps.
	if (mounts < 0 || file_lock(mounts, LOCK_EX | LOCK_NB, "mounts", &ignored) != 0 ||
		store_names(mounts, ".", &a, &names, &ignored) < 0 || !names.count ||
		pin_list(s, &a, &pins, &count, &ignored) < 0)
		return;
	uint64_t here = pin_mount_namespace();
	for (size_t i = 0; i < names.count; i++) {
		const struct pin *pin = NULL;
		for (size_t k = 0; k < count && !pin; k++)
			if (streq(pins[k].name, names.items[i]))
				pin = &pins[k];
		// What is no pin: of an earlier boot, or half written.
		if (pin && (pin->mount_namespace != here || is_live(pin)))
			continue;
		cleanup_fd int fd = -1;
		if (store_lock_open(mounts, names.items[i], O_RDONLY, LOCK_EX, &fd, &ignored) ==
				STORE_LOCKED &&
			!(pin && is_live(pin)))
			unlinkat(mounts, names.items[i], 0);
	}
}
