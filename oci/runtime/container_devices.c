// SPDX-License-Identifier: Apache-2.0
//
// /dev from nothing: the nodes that the runtime specification asks every container to have, those
// of the specification, links and folders.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/container_internal.h"
#include "oci/runtime/user_namespace.h"

#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const struct runtime_device usual[] = {
	{"/dev/null", 'c', 1, 3, 0666, 0, 0},
	{"/dev/zero", 'c', 1, 5, 0666, 0, 0},
	{"/dev/full", 'c', 1, 7, 0666, 0, 0},
	{"/dev/random", 'c', 1, 8, 0666, 0, 0},
	{"/dev/urandom", 'c', 1, 9, 0666, 0, 0},
	{"/dev/tty", 'c', 5, 0, 0666, 0, 0},
};

static const struct {
	const char *name, *text;
} links[] = {
	{"ptmx", "pts/ptmx"},
	{"fd", "/proc/self/fd"},
	{"stdin", "/proc/self/fd/0"},
	{"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"},
};

// What is made outside of the container's user namespace belongs to its root nevertheless. (Made
// inside, it does, and may not be given away by number.)
static int own(int folder, const char *name, const struct runtime_spec *spec, uid_t uid, gid_t gid)
{
	uint32_t outer_uid = uid, outer_gid = gid;
	user_namespace_outside(&spec->uid_mappings, uid, &outer_uid);
	user_namespace_outside(&spec->gid_mappings, gid, &outer_gid);
	return fchownat(folder, name, outer_uid, outer_gid, AT_SYMLINK_NOFOLLOW);
}

// The folder of a name below /dev, and the last part of it. `spec` NULL: we are inside.
static int open_parent(int dev_fd, const char *name, const struct runtime_spec *spec,
	const char **last, struct error *err)
{
	cleanup_fd int folder = fcntl(dev_fd, F_DUPFD_CLOEXEC, 3);
	for (const char *p = name;;) {
		size_t n = strcspn(p, "/");
		if (!p[n]) {
			*last = p;
			return steal_fd(&folder);
		}
		cleanup_free char *part = xstrndup(p, n);
		int made = mkdirat(folder, part, 0755);
		if (made == 0 && spec)
			made = own(folder, part, spec, 0, 0);
		else if (made < 0 && errno == EEXIST)
			made = 0;
		if (made < 0)
			return error_set_errno(err, errno, "make the folder of /dev/%s", name);
		int next = openat(folder, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return error_set_errno(err, errno, "open the folder of /dev/%s", name);
		close(folder);
		folder = next;
		p += n + strspn(p + n, "/");
	}
}

static int make_node(int folder, const char *name, const struct runtime_device *d,
	const struct runtime_spec *spec, struct error *err)
{
	mode_t type = d->type == 'b' ? S_IFBLK : d->type == 'p' ? S_IFIFO : S_IFCHR;
	mode_t mode = d->mode ? d->mode & 07777 : 0666;
	dev_t number = d->type == 'p' ? 0 : makedev((unsigned)d->major, (unsigned)d->minor);
	if (mknodat(folder, name, type | mode, number) < 0)
		return error_set_errno(err, errno, "make %s", d->path);
	if (fchmodat(folder, name, mode, 0) < 0 || own(folder, name, spec, d->uid, d->gid) < 0)
		return error_set_errno(err, errno, "own %s", d->path);
	return 0;
}

// What the node has at that path must be that device: its name proves nothing.
static int bind_node(
	int folder, const char *name, const struct runtime_device *d, struct error *err)
{
	static const struct mount_words words = {.set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC};
	struct stat st;
	cleanup_fd int tree = container_clone_tree(AT_FDCWD, d->path, &words, -1, err);
	if (tree < 0)
		return -1;
	if (fstat(tree, &st) < 0)
		return error_set_errno(err, errno, "%s", d->path);
	if (!(d->type == 'b' ? S_ISBLK(st.st_mode) : S_ISCHR(st.st_mode)) ||
		st.st_rdev != makedev((unsigned)d->major, (unsigned)d->minor))
		return error_set(err, ERROR_INVALID,
			"device %s: the node has another device there, and making one needs root",
			d->path);
	cleanup_fd int target =
		openat(folder, name, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (target < 0)
		return error_set_errno(err, errno, "make %s", d->path);
	return container_attach(tree, target, d->path, err);
}

static int make_device(int dev_fd, const struct runtime_device *d, const struct runtime_spec *spec,
	bool bind, bool replace, struct error *err)
{
	const char *name = d->path + sizeof("/dev/") - 1, *last;
	struct stat st;
	cleanup_fd int folder =
		open_parent(dev_fd, name + strspn(name, "/"), bind ? NULL : spec, &last, err);
	if (folder < 0)
		return -1;
	if (fstatat(folder, last, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (!replace)
			return 0;
		if (unlinkat(folder, last, 0) < 0)
			return error_set_errno(err, errno, "replace %s", d->path);
	}
	return bind ? bind_node(folder, last, d, err) : make_node(folder, last, d, spec, err);
}

int container_make_devices(
	int dev_fd, const struct runtime_spec *spec, bool bind, struct error *err)
{
	for (size_t i = 0; i < array_size(usual); i++)
		if (make_device(dev_fd, &usual[i], spec, bind, false, err) < 0)
			return -1;
	for (size_t i = 0; i < spec->device_count; i++)
		if (make_device(dev_fd, &spec->devices[i], spec, bind, true, err) < 0)
			return -1;
	for (size_t i = 0; i < array_size(links); i++) {
		int made = symlinkat(links[i].text, dev_fd, links[i].name);
		if (made == 0 && !bind)
			made = own(dev_fd, links[i].name, spec, 0, 0);
		else if (made < 0 && errno == EEXIST)
			made = 0;
		if (made < 0)
			return error_set_errno(err, errno, "make /dev/%s", links[i].name);
	}
	return 0;
}
