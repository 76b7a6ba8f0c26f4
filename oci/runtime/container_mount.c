// SPDX-License-Identifier: Apache-2.0
//
// Carries out the plan. Everything inside the root is reached by openat2(2) from its descriptor
// with RESOLVE_IN_ROOT, so a symbolic link of the image, "/data -> /etc" or "-> ../../../", leads
// to a place inside the image or to an error, never to the node. Nobody else is in the container
// yet, so nothing changes under our feet.
#include "oci/runtime/container_internal.h"

#include "base/file.h"
#include "base/text.h"

#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { PATH_PARTS_MAX = 4096, OPTION_MAX = 128 };

// Open `path` as it is, -1 with err if that fails.
static int open_in_root(int root_fd, const char *path, bool plain, struct error *err)
{
	return file_open_beneath(root_fd, path, O_PATH | O_CLOEXEC, 0,
		RESOLVE_IN_ROOT | (plain ? RESOLVE_NO_SYMLINKS : 0), err);
}

// Make the last component of `path` in the folder `parent`.
static int make_last(int parent, const char *path, bool file, struct error *err)
{
	const char *name = path_base(path);
	if (!file && mkdirat(parent, name, 0755) == 0)
		return 0;
	if (file) {
		cleanup_fd int fd = openat(
			parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
		if (fd >= 0)
			return 0;
	}
	// What is there and yet was not found is a link that leads nowhere.
	if (errno == EEXIST)
		return error_set(err, ERROR_INVALID,
			"%s: the image has a symbolic link there that leads nowhere", path);
	return error_set_errno(err, errno, "make %s in the container", path);
}

int container_target(int root_fd, const char *path, bool file, bool plain, struct error *err)
{
	int fd = open_in_root(root_fd, path, plain, err);
	if (fd >= 0)
		return fd;
	if (err->kind != ERROR_NOT_FOUND)
		return error_context(err, "in the container");
	error_clear(err);
	// One component after the other, each looked up from the root again.
	cleanup_free char *part = xstrdup(path);
	cleanup_fd int parent = fcntl(root_fd, F_DUPFD_CLOEXEC, 3);
	for (char *p = part + strspn(part, "/"); *p;) {
		char *end = p + strcspn(p, "/"), *next = end + strspn(end, "/"), saved = *end;
		bool last = !*next;
		*end = '\0';
		int here = open_in_root(root_fd, part, plain, err);
		if (here < 0 && err->kind == ERROR_NOT_FOUND) {
			error_clear(err);
			if (make_last(parent, part, file && last, err) < 0)
				return -1;
			here = open_in_root(root_fd, part, plain, err);
		}
		if (here < 0)
			return error_context(err, "in the container");
		close(parent);
		parent = here;
		*end = saved;
		p = next;
	}
	return steal_fd(&parent);
}

int container_write_file(int root_fd, const struct container_file *file, struct error *err)
{
	const char *name = path_base(file->path);
	cleanup_free char *folder = xstrndup(file->path, (size_t)(name - file->path));
	cleanup_fd int parent = container_target(root_fd, folder, false, false, err);
	if (parent < 0)
		return -1;
	if (unlinkat(parent, name, 0) < 0 && errno != ENOENT)
		return error_set_errno(err, errno, "replace %s in the container", file->path);
	cleanup_fd int fd = openat(
		parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, file->mode);
	if (fd < 0)
		return error_set_errno(err, errno, "make %s in the container", file->path);
	return write_all(fd, file->data, file->size, file->path, err);
}

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

// A detached mount of a new file system.
static int new_filesystem(
	const char *type, const char *options, uint64_t attributes, struct error *err)
{
	cleanup_fd int fs = fsopen(type, FSOPEN_CLOEXEC);
	bool ok = fs >= 0 && fsconfig(fs, FSCONFIG_SET_STRING, "source", type, 0) == 0;
	for (const char *o = options; ok && o && *o;) {
		size_t n = strcspn(o, ",");
		ok = set_option(fs, o, n) == 0;
		o += n + (o[n] == ',');
	}
	ok = ok && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0;
	int mounted = ok ? fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attributes) : -1;
	if (mounted < 0)
		return error_set_errno(err, errno, "make a file system of type %s", type);
	return mounted;
}

// A detached copy of what is at a path (or at a descriptor with the path "").
static int clone_tree(int fd, const char *path, uint64_t attributes, struct error *err)
{
	unsigned empty = *path ? 0 : AT_EMPTY_PATH;
	cleanup_fd int tree =
		open_tree(fd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | empty);
	if (tree < 0)
		return error_set_errno(err, errno, "open %s", *path ? path : "a mount");
	struct mount_attr attr = {.attr_set = attributes};
	if (attributes &&
		mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return error_set_errno(err, errno, "restrict %s%s", *path ? path : "a mount",
			errno == ENOSYS ? " (Linux 5.12 or newer is needed)" : "");
	return steal_fd(&tree);
}

static int attach(int mount_fd, int target_fd, const char *target, struct error *err)
{
	if (move_mount(mount_fd, "", target_fd, "",
		    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) {
		if (errno == ENOTDIR)
			return error_set(err, ERROR_INVALID,
				"mount at %s: one is a folder, the other a file", target);
		return error_set_errno(err, errno, "mount at %s", target);
	}
	return 0;
}

static int is_folder(int fd, const char *name, bool *folder, struct error *err)
{
	struct stat st;
	if (fstatat(fd, "", &st, AT_EMPTY_PATH) < 0)
		return error_set_errno(err, errno, "stat %s", name);
	*folder = S_ISDIR(st.st_mode);
	return 0;
}

static int step_filesystem(int root_fd, const struct container_step *s, struct error *err)
{
	cleanup_fd int target = container_target(root_fd, s->target, false, s->plain, err);
	if (target < 0)
		return -1;
	cleanup_fd int mounted = new_filesystem(s->source, s->options, s->attributes, err);
	return mounted < 0 ? -1 : attach(mounted, target, s->target, err);
}

// A link of the image may lead the target into /proc or /sys, which the plan has refused by name.
static int refuse_kernel_files(int target, const char *name, struct error *err)
{
	struct statfs fs;
	if (fstatfs(target, &fs) < 0)
		return error_set_errno(err, errno, "statfs %s", name);
	if (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC)
		return error_set(
			err, ERROR_INVALID, "mount at %s: this leads into /proc or /sys", name);
	return 0;
}

static int step_bind(int root_fd, const struct container_step *s, const struct container_user *user,
	struct error *err)
{
	bool folder;
	cleanup_fd int tree = clone_tree(AT_FDCWD, s->source, s->attributes, err);
	if (tree < 0 || is_folder(tree, s->source, &folder, err) < 0)
		return -1;
	cleanup_fd int target = container_target(root_fd, s->target, !folder, s->plain, err);
	if (target < 0 || refuse_kernel_files(target, s->target, err) < 0)
		return -1;
	if (s->owned && fchownat(tree, "", user->uid, user->gid, AT_EMPTY_PATH) < 0)
		return error_set_errno(err, errno, "give %s to the container's user", s->source);
	return attach(tree, target, s->target, err);
}

static int step_link(int root_fd, const struct container_step *s, struct error *err)
{
	const char *name = path_base(s->target);
	cleanup_free char *folder = xstrndup(s->target, (size_t)(name - s->target));
	cleanup_fd int parent = container_target(root_fd, folder, false, false, err);
	if (parent < 0)
		return -1;
	if (symlinkat(s->source, parent, name) < 0)
		return error_set_errno(err, errno, "make the link %s", s->target);
	return 0;
}

static int cover(int root_fd, const struct container_step *s, struct error *err)
{
	bool folder;
	cleanup_fd int target = open_in_root(root_fd, s->target, true, err);
	if (target < 0 && s->optional && err->kind == ERROR_NOT_FOUND) {
		error_clear(err);
		return 0;
	}
	if (target < 0 || is_folder(target, s->target, &folder, err) < 0)
		return -1;
	cleanup_fd int tree = -1;
	if (s->kind == STEP_READ_ONLY)
		tree = clone_tree(target, "", s->attributes, err);
	else if (folder)
		tree = new_filesystem("tmpfs", "size=0,nr_inodes=2,mode=755",
			MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
	else
		tree = clone_tree(AT_FDCWD, "/dev/null", 0, err);
	return tree < 0 ? -1 : attach(tree, target, s->target, err);
}

int container_mount(int root_fd, const struct container_plan *plan,
	const struct container_user *user, struct error *err)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct container_step *s = &plan->steps[i];
		int rc;
		switch (s->kind) {
		case STEP_FILESYSTEM:
			rc = step_filesystem(root_fd, s, err);
			break;
		case STEP_BIND:
			rc = step_bind(root_fd, s, user, err);
			break;
		case STEP_LINK:
			rc = step_link(root_fd, s, err);
			break;
		default:
			rc = cover(root_fd, s, err);
		}
		if (rc < 0)
			return -1;
	}
	return 0;
}
