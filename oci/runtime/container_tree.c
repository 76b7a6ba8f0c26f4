// SPDX-License-Identifier: Apache-2.0
//
// Detached mounts: made, restricted, and put in their places.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/container_internal.h"

#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

enum { OPTION_MAX = 512 };

static int set_option(int fs, const char *option, size_t length)
{
	char key[OPTION_MAX];
	if (length >= sizeof(key)) {
		errno = E2BIG;
		return -1;
	}
	memcpy(key, option, length);
	key[length] = '\0';
	char *equals = strchr(key, '=');
	if (!equals)
		return fsconfig(fs, FSCONFIG_SET_FLAG, key, NULL, 0);
	*equals = '\0';
	return fsconfig(fs, FSCONFIG_SET_STRING, key, equals + 1, 0);
}

int container_new_filesystem(const char *type, const char *source, const char *options,
	uint64_t attributes, struct error *err)
{
	const char *what = "";
	size_t shown = 0;
	cleanup_fd int fs = fsopen(type, FSOPEN_CLOEXEC);
	bool ok = fs >= 0 &&
		  fsconfig(fs, FSCONFIG_SET_STRING, "source", source ? source : type, 0) == 0;
	for (const char *o = options; ok && o && *o;) {
		size_t n = strcspn(o, ",");
		ok = set_option(fs, o, n) == 0;
		if (!ok) {
			what = o;
			shown = n;
		}
		o += n + (o[n] == ',');
	}
	ok = ok && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0;
	int mounted = ok ? fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attributes) : -1;
	if (mounted < 0 && errno == ENODEV)
		return error_set(err, ERROR_INVALID, "this kernel has no file system \"%s\"", type);
	if (mounted < 0)
		return error_set_errno(err, errno, "make a file system of type %s%s%.*s", type,
			shown ? ", option " : "", (int)shown, what);
	return mounted;
}

static int apply(int tree, unsigned flags, const struct mount_attr *attr)
{
	if (!attr->attr_set && !attr->attr_clr && !attr->propagation)
		return 0;
	struct mount_attr copy = *attr;
	return mount_setattr(tree, "", AT_EMPTY_PATH | flags, &copy, sizeof(copy));
}

int container_restrict(int tree, const char *name, const struct mount_words *words, int userns_fd,
	struct error *err)
{
	// Private unless something else was asked for: what the container mounts below must not
	// appear on the node, nor the other way round.
	struct mount_attr top = {.attr_set = words->set,
		.attr_clr = words->clear,
		.propagation = words->propagation & ~(unsigned long)MS_REC};
	struct mount_attr all = {.attr_set = words->recursive_set,
		.attr_clr = words->recursive_clear,
		.propagation = words->propagation ? 0 : MS_PRIVATE};
	if (words->propagation & MS_REC)
		all.propagation = top.propagation;
	struct mount_attr ids = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (unsigned)userns_fd};
	if (apply(tree, AT_RECURSIVE, &all) < 0 || apply(tree, 0, &top) < 0)
		return error_set_errno(err, errno, "restrict the mount of %s%s", name,
			errno == ENOSYS ? " (Linux 5.12 or newer is needed)" : "");
	if (userns_fd < 0)
		return 0;
	unsigned deep = words->recursive_idmap ? AT_RECURSIVE : 0;
	if (mount_setattr(tree, "", AT_EMPTY_PATH | deep, &ids, sizeof(ids)) < 0)
		return error_set_errno(err, errno, "give the mount of %s the container's ids%s",
			name, errno == EINVAL ? " (its file system, or this kernel, cannot)" : "");
	return 0;
}

int container_clone_tree(
	int fd, const char *path, const struct mount_words *words, int userns_fd, struct error *err)
{
	unsigned flags = (*path ? 0 : AT_EMPTY_PATH) | (words->recursive ? AT_RECURSIVE : 0);
	cleanup_fd int tree = open_tree(fd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
	const char *name = *path ? path : "a mount";
	if (tree < 0)
		return error_set_errno(err, errno, "open %s", name);
	if (container_restrict(tree, name, words, userns_fd, err) < 0)
		return -1;
	return steal_fd(&tree);
}

int container_attach(int mount_fd, int target_fd, const char *target, struct error *err)
{
	if (move_mount(mount_fd, "", target_fd, "",
		    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0)
		return 0;
	if (errno == ENOTDIR)
		return error_set(err, ERROR_INVALID,
			"mount at %s: one of source and target is a folder, the other is not",
			target);
	return error_set_errno(err, errno, "mount at %s", target);
}
