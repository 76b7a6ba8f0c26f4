// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/layer_mount.h"

#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/loop_device.h"
#include "oci/store/entries.h"
#include "oci/store/pin.h"

#include <linux/magic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#ifndef EROFS_SUPER_MAGIC_V1
#define EROFS_SUPER_MAGIC_V1 0xE0F5E1E2
#endif

enum { MOUNT_NAME_SIZE = 96, HEX_SIZE = 64, WAIT_TRIES = 100000 }; // 0.2 ms apart

static const unsigned long mount_flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME;

static void mount_names(const char *hex, char point[MOUNT_NAME_SIZE], char lock[MOUNT_NAME_SIZE])
{
	snprintf(point, MOUNT_NAME_SIZE, "layers/%.64s", hex);
	snprintf(lock, MOUNT_NAME_SIZE, "layers/%.64s.lock", hex);
}

// 1, 0, or -1: not to be known, which must not be taken for "not mounted" (it would be mounted
// again and again). By path, so that running out of descriptors is no such case. The run directory
// itself is writable, hence no EROFS: what is EROFS here is a layer.
static int is_mounted(struct store *s, const char *point, struct error *err)
{
	struct statfs fs;
	cleanup_free char *path = path_join(s->run_dir, point);
	if (statfs(path, &fs) == 0)
		return (unsigned long)fs.f_type == EROFS_SUPER_MAGIC_V1;
	return errno == ENOENT ? 0 : error_set_errno(err, errno, "look at %s", path);
}

static int mount_failed(const struct store_layer *layer, int sys, struct error *err)
{
	if (sys == ENODEV)
		return error_set(err, ERROR_SYSTEM,
			"this kernel has no EROFS; set layer_format: directory in agent.yaml");
	if (sys == EINVAL || sys == EUCLEAN || sys == EIO || sys == EBADMSG || sys == ENODATA)
		return error_set(err, ERROR_INTEGRITY,
			"layer %s does not mount (%s): its file is damaged; remove it and pull "
			"again",
			layer->diff_id.text, strerror(sys));
	return error_set_errno(err, sys, "mount layer %s", layer->diff_id.text);
}

static int mount_loop(const struct store_layer *layer, const char *target, struct error *err)
{
	char device[LOOP_PATH_SIZE];
	cleanup_fd int loop = loop_device_attach(layer->fd, device, err);
	if (loop < 0)
		return -1;
	if (mount(device, target, "erofs", mount_flags, NULL) < 0)
		return mount_failed(layer, errno, err);
	return 0;
}

static int mount_layer(
	struct store *s, const struct store_layer *layer, const char *point, struct error *err)
{
	cleanup_free char *target = path_join(s->run_dir, point);
	cleanup_free char *source = xasprintf(
		"%s/layers/sha256/%s.erofs", s->state_dir, oci_digest_hex(&layer->diff_id));
	if (mkdirat(s->run_fd, point, 0700) < 0 && errno != EEXIST)
		return error_set_errno(err, errno, "make %s", target);
	if (s->layer_backing == LAYER_BACKING_LOOP)
		return mount_loop(layer, target, err);
	// The lease keeps the file at its path, and the path makes /proc/mounts readable.
	if (mount(source, target, "erofs", mount_flags, NULL) == 0)
		return 0;
	int sys = errno;
	// ENOTBLK: a kernel before 6.12, or without CONFIG_EROFS_FS_BACKED_BY_FILE. File systems
	// that it cannot read from this way are told with EINVAL, like a damaged file; the loop
	// device tells which.
	if (s->layer_backing == LAYER_BACKING_AUTO &&
		(sys == ENOTBLK || sys == EINVAL || sys == EOPNOTSUPP))
		return mount_loop(layer, target, err);
	return mount_failed(layer, sys, err);
}

static void unmount_point(struct store *s, const char *point)
{
	cleanup_free char *target = path_join(s->run_dir, point);
	struct error ignored;
	// More than once only where a killed process and its successor disagreed about the mount
	// table (another mount namespace).
	while (is_mounted(s, point, &ignored) == 1 && umount2(target, UMOUNT_NOFOLLOW) == 0)
		continue;
	// Fails while it is mounted, which is meant: somebody's working folder is inside. The next
	// sweep tries again.
	unlinkat(s->run_fd, point, AT_REMOVEDIR);
}

// The lock is exclusive. Nobody uses the layer; unless it is pinned, unmount and remove mount point
// and lock.
static void retire(struct store *s, const struct oci_digest *diff_id, int lock_fd)
{
	char point[MOUNT_NAME_SIZE], lock[MOUNT_NAME_SIZE];
	struct error ignored;
	mount_names(oci_digest_hex(diff_id), point, lock);
	if (!store_same_file(lock_fd, s->run_fd, lock) ||
		pin_find_layer(s, diff_id, LAYER_EROFS, &ignored))
		return;
	unmount_point(s, point);
	// Last: who opened the file before finds that its name is gone, and starts again.
	unlinkat(s->run_fd, lock, 0);
}

// Mount it unless it is mounted, under the exclusive lock. 0 done, 1 somebody else has the lock,
// -1.
static int mount_exclusively(struct store *s, const struct store_layer *layer, struct error *err)
{
	char point[MOUNT_NAME_SIZE], lock[MOUNT_NAME_SIZE];
	cleanup_fd int fd = -1;
	mount_names(oci_digest_hex(&layer->diff_id), point, lock);
	int got = store_lock_open(s->run_fd, lock, O_RDWR | O_CREAT, LOCK_EX, &fd, err);
	if (got != STORE_LOCKED)
		return got < 0 ? -1 : 1;
	int mounted = is_mounted(s, point, err);
	if (mounted)
		return mounted < 0 ? -1 : 0;
	if (mount_layer(s, layer, point, err) == 0)
		return 0;
	retire(s, &layer->diff_id, fd);
	return -1;
}

int layer_mount_use(
	struct store *s, const struct store_layer *layer, int *lock_fd, struct error *err)
{
	char point[MOUNT_NAME_SIZE], lock[MOUNT_NAME_SIZE];
	mount_names(oci_digest_hex(&layer->diff_id), point, lock);
	for (int i = 0; i < WAIT_TRIES; i++) {
		cleanup_fd int fd = -1;
		int got = store_lock_open(s->run_fd, lock, O_RDWR | O_CREAT, LOCK_SH, &fd, err);
		if (got < 0)
			return -1;
		int mounted = got == STORE_LOCKED ? is_mounted(s, point, err) : 0;
		if (mounted < 0)
			return -1;
		if (mounted) {
			*lock_fd = steal_fd(&fd);
			return 0;
		}
		// Not by turning our lock into an exclusive one: that gives it up in between
		// (flock(2)), and two who try it at once would both fail. The next turn checks what
		// came of it.
		close_fdp(&fd);
		fd = -1;
		int busy = got == STORE_LOCKED ? mount_exclusively(s, layer, err) : 1;
		if (busy < 0)
			return -1;
		if (busy)
			nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	}
	return error_set(err, ERROR_UNAVAILABLE,
		"layer %s: another process holds its mount and does not go on",
		layer->diff_id.text);
}

void layer_mount_release(struct store *s, const struct oci_digest *diff_id, int lock_fd)
{
	struct error ignored;
	if (file_lock(lock_fd, LOCK_EX | LOCK_NB, "layer", &ignored) == 0)
		retire(s, diff_id, lock_fd);
	close(lock_fd);
}

int layer_mount_open(struct store *s, const struct oci_digest *diff_id, struct error *err)
{
	char point[MOUNT_NAME_SIZE], lock[MOUNT_NAME_SIZE];
	mount_names(oci_digest_hex(diff_id), point, lock);
	int fd = openat(s->run_fd, point, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return error_set_errno(err, errno, "open %s/%s", s->run_dir, point);
	return fd;
}

void layer_mount_sweep(struct store *s)
{
	cleanup_arena struct arena a = {0};
	struct store_names names;
	struct error ignored;
	if (store_names(s->run_fd, "layers", &a, &names, &ignored) < 0)
		return;
	for (size_t i = 0; i < names.count; i++) {
		struct oci_digest diff_id;
		char text[OCI_DIGEST_SIZE], point[MOUNT_NAME_SIZE], lock[MOUNT_NAME_SIZE];
		snprintf(text, sizeof(text), "sha256:%.64s", names.items[i]);
		if (oci_digest_parse(text, &diff_id, &ignored) < 0)
			continue;
		// A mount point without a lock: its maker was killed, or the lock file removed by
		// hand.
		bool is_lock = streq(names.items[i] + HEX_SIZE, ".lock");
		cleanup_fd int fd = -1;
		mount_names(oci_digest_hex(&diff_id), point, lock);
		if (store_lock_open(s->run_fd, lock, O_RDWR | (is_lock ? 0 : O_CREAT), LOCK_EX, &fd,
			    &ignored) == STORE_LOCKED)
			retire(s, &diff_id, fd);
	}
}
