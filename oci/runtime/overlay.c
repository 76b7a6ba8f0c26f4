// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/overlay.h"

#include "base/file.h"

#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

struct overlay_option {
	const char *key, *value;
};

// What the layers of an image may not decide, and what must be the same on every node whatever its
// kernel was built with.
static const struct overlay_option common_options[] = {
	// A redirect attribute in a layer could name any other place of the layers.
	{"redirect_dir", "nofollow"},
	// A file of metadata only, with its data elsewhere: likewise.
	{"metacopy", "off"},
	// An index in the work folder, for hard links of layers and for NFS: costs a copy-up per
	// link, and
	// makes an upper folder unusable over other layers.
	{"index", "off"},
	// Layers are file systems of their own: without this files would state other devices than
	// folders,
	// and `tar --one-file-system` would leave them out.
	{"xino", "on"},
};

// The reason that the kernel gives in words, if any: fsopen(2)'s messages look like "e overlay:
// text". The last one counts; those before are about what was only tried.
static int context_failed(int context, int sys, const char *what, struct error *err)
{
	char text[256];
	size_t length = 0;
	for (ssize_t n; (n = read(context, text, sizeof(text) - 1)) > 0;)
		length = (size_t)n;
	if (length <= 2)
		return error_set_errno(err, sys, "overlay: %s", what);
	text[length] = '\0';
	text[strcspn(text, "\n")] = '\0';
	error_set_errno(err, sys, "overlay: %s (%s)", what, text + 2);
	return -1;
}

static int set_option(int context, const struct overlay_option *o, struct error *err)
{
	unsigned command = o->value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;
	if (fsconfig(context, command, o->key, o->value, 0) < 0)
		return context_failed(context, errno, o->key, err);
	return 0;
}

// By descriptor where the kernel can (Linux 6.13): then /proc/mounts names the folder. Else by the
// descriptor's name in /proc, which needs no quoting, unlike the folder's own.
static int set_folder(int context, const char *key, int fd)
{
	char name[32];
	if (fsconfig(context, FSCONFIG_SET_FD, key, NULL, fd) == 0)
		return 0;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	return fsconfig(context, FSCONFIG_SET_STRING, key, name, 0);
}

static int set_scratch(int context, int scratch_fd, struct error *err)
{
	const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	cleanup_fd int upper = openat(scratch_fd, "upper", flags);
	cleanup_fd int work = openat(scratch_fd, "work", flags);
	if (upper < 0 || work < 0)
		return error_set_errno(err, errno, "overlay: open upper and work");
	if (set_folder(context, "upperdir", upper) < 0)
		return context_failed(context, errno, "the upper folder", err);
	if (set_folder(context, "workdir", work) < 0)
		return context_failed(context, errno, "the work folder", err);
	return 0;
}

static int set_up(int context, const struct overlay *o, struct error *err)
{
	const struct overlay_option userxattr = {"userxattr", NULL};
	for (size_t i = 0; i < array_size(common_options); i++)
		if (set_option(context, &common_options[i], err) < 0)
			return -1;
	if (o->userxattr && set_option(context, &userxattr, err) < 0)
		return -1;
	for (size_t i = 1; i < o->lower_count; i++)
		if (set_folder(context, "lowerdir+", o->lower_fds[i]) < 0)
			return context_failed(context, errno, "a lower folder", err);
	return o->scratch_fd < 0 ? 0 : set_scratch(context, o->scratch_fd, err);
}

// Whether the kernel takes layers one by one; then it has the first. Before Linux 6.5, overlayfs's
// options are only collected for what mount(2) does, and any key passes: the refusal comes when it
// is too late to know what it is about. Hence a key that no overlayfs has.
static bool add_first(int context, int fd)
{
	if (fsconfig(context, FSCONFIG_SET_FLAG, "stoker", NULL, 0) == 0)
		return false;
	return set_folder(context, "lowerdir+", fd) == 0;
}

int overlay_mount(const struct overlay *o, const char *folder, struct error *err)
{
	if (o->foreign && overlay_reopen(o) < 0)
		return error_set_errno(
			err, errno, "overlay: open the layers in this mount namespace");
	cleanup_fd int context = fsopen("overlay", FSOPEN_CLOEXEC);
	if (context < 0 && errno == ENODEV)
		return error_set(err, ERROR_SYSTEM,
			"this kernel has no overlayfs; load the module \"overlay\"");
	if (context < 0 || !add_first(context, o->lower_fds[0])) // ENOSYS: before Linux 5.2
		return overlay_mount_old(o, folder, err);
	if (set_up(context, o, err) < 0)
		return -1;
	if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
		// Before Linux 6.15 a layer must stand somewhere in our mount namespace.
		if (o->detached && errno == EINVAL)
			return overlay_mount_old(o, folder, err);
		return context_failed(context, errno, "mount", err);
	}
	int mounted = fsmount(context, FSMOUNT_CLOEXEC, o->scratch_fd < 0 ? MOUNT_ATTR_RDONLY : 0);
	if (mounted < 0)
		return context_failed(context, errno, "fsmount", err);
	return mounted;
}
