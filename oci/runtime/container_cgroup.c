// SPDX-License-Identifier: Apache-2.0
//
// What a container sees at /sys/fs/cgroup: version 2, its own group as the root, by the cgroup
// namespace; version 1, a folder with each hierarchy in the same way.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/cgroup.h"
#include "oci/runtime/container_internal.h"

#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CGROUP_FILE_MAX = 64 * 1024 };

static int mount_hierarchy(
	int folder, const char *controllers, const struct container_step *s, struct error *err)
{
	const char *named = starts_with(controllers, "name=") ? controllers + 5 : NULL;
	const char *name = named ? named : controllers;
	cleanup_free char *options =
		named ? xasprintf("none,name=%s", named) : xstrdup(controllers);
	cleanup_fd int mounted =
		container_new_filesystem("cgroup", NULL, options, s->words.set, err);
	if (mounted < 0) {
		// A hierarchy that cannot be shown is only missing from the view.
		error_clear(err);
		return 0;
	}
	// Only a hierarchy's root has this: the container has no group of its own there, and would
	// see everybody's.
	if (faccessat(mounted, "release_agent", F_OK, 0) == 0)
		return 0;
	if (mkdirat(folder, name, 0555) < 0 && errno != EEXIST)
		return error_set_errno(err, errno, "make %s/%s", s->target, name);
	cleanup_fd int target = openat(folder, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (target < 0)
		return error_set_errno(err, errno, "open %s/%s", s->target, name);
	return container_attach(mounted, target, s->target, err);
}

// The hierarchies as /proc/self/cgroup lists them: "4:memory:/path".
static int mount_version_1(int target, const struct container_step *s, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	cleanup_fd int folder = container_new_filesystem("tmpfs", NULL, "mode=755",
		MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err);
	if (folder < 0 || container_attach(folder, target, s->target, err) < 0 ||
		file_read(AT_FDCWD, "/proc/self/cgroup", CGROUP_FILE_MAX, &b, err) < 0)
		return -1;
	for (char *line = b.data; line && *line;) {
		char *end = line + strcspn(line, "\n"), *next = end + (*end == '\n');
		*end = '\0';
		char *controllers = strchr(line, ':'),
		     *path = controllers ? strchr(controllers + 1, ':') : NULL;
		if (path && path > controllers + 1) {
			*path = '\0';
			if (mount_hierarchy(folder, controllers + 1, s, err) < 0)
				return -1;
		}
		line = next;
	}
	struct mount_attr attr = {.attr_set = s->words.set & MOUNT_ATTR_RDONLY};
	if (attr.attr_set && mount_setattr(folder, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return error_set_errno(err, errno, "restrict %s", s->target);
	return 0;
}

int container_mount_cgroup(int root_fd, const struct container_step *s, struct error *err)
{
	enum cgroup_mode mode = cgroup_detect();
	cleanup_fd int target = container_target(root_fd, s->target, false, s->plain, err);
	if (target < 0)
		return -1;
	if (mode == CGROUP_NONE)
		return 0;
	if (mode != CGROUP_V2)
		return mount_version_1(target, s, err);
	cleanup_fd int mounted = container_new_filesystem("cgroup2", NULL, NULL, s->words.set, err);
	if (mounted >= 0)
		return container_attach(mounted, target, s->target, err);
	// Without a cgroup namespace of this user namespace's own.
	if (err->sys != EPERM && err->sys != EBUSY)
		return error_context(err, "mount at %s", s->target);
	error_clear(err);
	return 0;
}
