// SPDX-License-Identifier: Apache-2.0
//
// Carries out the plan. Everything inside the root is reached by openat2(2) from its descriptor
// with RESOLVE_IN_ROOT, so a symbolic link of the image, "/data -> /etc" or "-> ../../../", leads
// to a place inside the image or to an error, never to the node. Nobody else is in the container
// yet, so nothing changes under our feet.
#include "oci/runtime/container_internal.h"

#include "base/file.h"
#include "base/text.h"
#include "base/weaken.h"

#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

// Open `path` as it is, -1 with err if that fails.
static int open_in_root(int root_fd, const char *path, bool plain, struct error *err)
{
	if (weakened("beneath")) { // what a runtime did that joined path strings
		char joined[64 + 4096];
		snprintf(joined, sizeof(joined), "/proc/self/fd/%d/%s", root_fd, path);
		int fd = open(joined, O_PATH | O_CLOEXEC);
		return fd < 0 ? error_set_errno(err, errno, "open %s", path) : fd;
	}
	return file_open_beneath(root_fd, path, O_PATH | O_CLOEXEC, 0,
		RESOLVE_IN_ROOT | (plain && !weakened("proc-plain") ? RESOLVE_NO_SYMLINKS : 0),
		err);
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

// What is known of it will do: a server is not asked, which might not answer.
static int is_folder(int fd, const char *name, bool *folder, struct error *err)
{
	struct statx st;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return error_set_errno(err, errno, "stat %s", name);
	*folder = S_ISDIR(st.stx_mode);
	return 0;
}

static int step_filesystem(int root_fd, const struct container_step *s, struct error *err)
{
	cleanup_fd int target = container_target(root_fd, s->target, false, s->plain, err);
	if (target < 0)
		return -1;
	cleanup_fd int mounted = container_new_filesystem(
		s->source, s->mount->source, s->words.data, s->words.set, err);
	if (mounted >= 0 && s->words.copy_up &&
		container_copy_up(target, mounted, s->target, err) < 0)
		return -1;
	if (mounted >= 0)
		return container_attach(mounted, target, s->target, err);
	// In a network namespace that is not this user namespace's own, sysfs cannot be mounted:
	// then the node's is shown, as restricted.
	if (!streq(s->source, "sysfs") || err->sys != EPERM)
		return error_context(err, "mount at %s", s->target);
	struct mount_words words = s->words;
	words.recursive = true;
	words.recursive_set = words.set;
	cleanup_fd int tree = container_clone_tree(AT_FDCWD, "/sys", &words, -1, err);
	return tree < 0 ? -1 : container_attach(tree, target, s->target, err);
}

// A link of the image may lead the target into /proc or /sys, which the plan has refused by name.
static int refuse_kernel_files(int target, const struct container_step *s, struct error *err)
{
	struct statfs fs;
	if (strncmp(s->target, "/proc", 5) == 0 || strncmp(s->target, "/sys", 4) == 0)
		return 0;
	if (fstatfs(target, &fs) < 0)
		return error_set_errno(err, errno, "statfs %s", s->target);
	if (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC)
		return error_set(err, ERROR_INVALID, "mount at %s: this leads into /proc or /sys",
			s->target);
	return 0;
}

static int step_bind(int root_fd, const struct container_step *s, struct error *err)
{
	bool folder;
	cleanup_fd int own =
		s->tree_fd >= 0 ? -1
				: container_clone_tree(AT_FDCWD, s->source, &s->words, -1, err);
	int tree = s->tree_fd >= 0 ? s->tree_fd : own;
	if (tree < 0 || is_folder(tree, s->source, &folder, err) < 0)
		return -1;
	cleanup_fd int target = container_target(root_fd, s->target, !folder, s->plain, err);
	if (target < 0 || refuse_kernel_files(target, s, err) < 0)
		return -1;
	return container_attach(tree, target, s->target, err);
}

static int step_devices(int root_fd, const struct container_step *s,
	const struct runtime_spec *spec, struct error *err)
{
	cleanup_fd int target = container_target(root_fd, s->target, false, s->plain, err);
	if (target < 0)
		return -1;
	if (s->tree_fd >= 0)
		return container_attach(s->tree_fd, target, s->target, err);
	cleanup_fd int mounted = container_new_filesystem(
		"tmpfs", s->mount->source, s->words.data, s->words.set, err);
	if (mounted < 0 || container_attach(mounted, target, s->target, err) < 0)
		return -1;
	if (!spec->namespaces[RUNTIME_NAMESPACE_USER].wanted) {
		if (container_make_devices(mounted, spec, false, err) == 0)
			return 0;
		if (err->sys != EPERM) // root that may not make devices
			return -1;
		error_clear(err);
	}
	// Mounts can only be put on a folder that stands somewhere.
	return container_make_devices(mounted, spec, true, err);
}

static int cover(int root_fd, const struct container_step *s, struct error *err)
{
	static const struct mount_words plain = {0};
	bool folder;
	cleanup_fd int target = open_in_root(root_fd, s->target, false, err);
	if (target < 0 && s->optional && err->kind == ERROR_NOT_FOUND) {
		error_clear(err);
		return 0;
	}
	// A path through something that is no folder is not there either.
	if (target < 0 && s->optional && err->sys == ENOTDIR) {
		error_clear(err);
		return 0;
	}
	if (target < 0 || is_folder(target, s->target, &folder, err) < 0)
		return -1;
	cleanup_fd int tree = -1;
	if (s->kind == STEP_READ_ONLY) {
		struct mount_words words = s->words;
		words.recursive = true;
		words.recursive_set = words.set;
		tree = container_clone_tree(target, "", &words, -1, err);
	} else if (folder) {
		tree = container_new_filesystem("tmpfs", NULL, "size=0,nr_inodes=2,mode=755",
			MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
	} else if (weakened("mask-null")) {
		cleanup_fd int null = open_in_root(root_fd, "/dev/null", false, err);
		tree = null < 0 ? -1 : container_clone_tree(null, "", &plain, -1, err);
	} else {
		// The node's, which no image and no volume can have replaced (CVE-2025-31133).
		tree = container_clone_tree(AT_FDCWD, "/dev/null", &plain, -1, err);
	}
	return tree < 0 ? -1 : container_attach(tree, target, s->target, err);
}

static int carry_out(int root_fd, const struct container_step *s, const struct runtime_spec *spec,
	struct error *err)
{
	switch (s->kind) {
	case STEP_FILESYSTEM:
		return step_filesystem(root_fd, s, err);
	case STEP_BIND:
		return step_bind(root_fd, s, err);
	case STEP_DEVICES:
		return step_devices(root_fd, s, spec, err);
	case STEP_CGROUP:
		return container_mount_cgroup(root_fd, s, err);
	default:
		return cover(root_fd, s, err);
	}
}

int container_mount(int root_fd, const struct container_launch *l, struct error *err)
{
	const struct runtime_spec *spec = l->o->spec;
	bool devices = false, covering = false;
	for (size_t i = 0; i < l->plan.count; i++) {
		const struct container_step *s = &l->plan.steps[i];
		devices |= s->kind == STEP_DEVICES;
		// Masks come last, and settings before them: they make /proc/sys read-only.
		bool covers = s->kind == STEP_MASK || s->kind == STEP_READ_ONLY;
		if (covers && !covering && container_write_sysctls(root_fd, spec, err) < 0)
			return -1;
		covering |= covers;
		if (carry_out(root_fd, s, spec, err) < 0)
			return -1;
	}
	if (!covering && container_write_sysctls(root_fd, spec, err) < 0)
		return -1;
	if (devices || !spec->device_count)
		return 0;
	// /dev is the image's own, or a bind: what the specification adds is still made in it.
	cleanup_fd int dev = container_target(root_fd, "/dev", false, true, err);
	return dev < 0 ? -1 : container_make_devices(dev, spec, geteuid() != 0, err);
}
