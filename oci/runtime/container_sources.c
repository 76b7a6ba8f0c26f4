// SPDX-License-Identifier: Apache-2.0
//
// What the parent opens for the child, with the node's privileges: so the child needs none outside
// of its namespaces, and nothing that the container can write to is looked up by path. As an
// ordinary user, who may not do that, the places stay -1 and the child opens them by path: it has
// the same user outside.
#include "base/file.h"
#include "base/weaken.h"
#include "oci/runtime/container_internal.h"
#include "oci/runtime/user_namespace.h"

#include <linux/nsfs.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
	uint64_t flag;
	const char *name;
} namespaces[RUNTIME_NAMESPACES] = {
	[RUNTIME_NAMESPACE_PID] = {CLONE_NEWPID, "pid"},
	[RUNTIME_NAMESPACE_NETWORK] = {CLONE_NEWNET, "network"},
	[RUNTIME_NAMESPACE_MOUNT] = {CLONE_NEWNS, "mount"},
	[RUNTIME_NAMESPACE_IPC] = {CLONE_NEWIPC, "ipc"},
	[RUNTIME_NAMESPACE_UTS] = {CLONE_NEWUTS, "uts"},
	[RUNTIME_NAMESPACE_USER] = {CLONE_NEWUSER, "user"},
	[RUNTIME_NAMESPACE_CGROUP] = {CLONE_NEWCGROUP, "cgroup"},
	[RUNTIME_NAMESPACE_TIME] = {CLONE_NEWTIME, "time"},
};

static int open_namespaces(struct container_launch *l, struct error *err)
{
	const struct runtime_spec *spec = l->o->spec;
	for (int i = 0; i < RUNTIME_NAMESPACES; i++) {
		const struct runtime_namespace *n = &spec->namespaces[i];
		if (!n->wanted)
			continue;
		if (!n->path) {
			l->new_namespaces |= namespaces[i].flag;
			continue;
		}
		l->joined[i] = open(n->path, O_RDONLY | O_CLOEXEC);
		if (l->joined[i] < 0)
			return error_set_errno(
				err, errno, "%s namespace %s", namespaces[i].name, n->path);
		if (ioctl(l->joined[i], NS_GET_NSTYPE) != (int)namespaces[i].flag)
			return error_set(err, ERROR_INVALID, "%s is no %s namespace", n->path,
				namespaces[i].name);
	}
	if (!(l->new_namespaces & CLONE_NEWNS))
		return error_set(err, ERROR_INVALID,
			"linux.namespaces: a new mount namespace is needed (\"type\": \"mount\" "
			"without a path)");
	// Else it would be the node's own that gets the name.
	if ((spec->hostname || spec->domainname) && !spec->namespaces[RUNTIME_NAMESPACE_UTS].wanted)
		return error_set(err, ERROR_INVALID, "%s: needs a UTS namespace (linux.namespaces)",
			spec->hostname ? "hostname" : "domainname");
	if (spec->namespaces[RUNTIME_NAMESPACE_TIME].wanted)
		return error_set(err, ERROR_INVALID, "linux.namespaces: \"time\" is not supported");
	return 0;
}

// The namespace with the ids that a mount gets: the mount's own maps, else the container's.
// One for all mounts, which each take a descriptor of it.
static int open_own_ids(struct container_launch *l, struct error *err)
{
	const struct runtime_spec *spec = l->o->spec;
	if (l->ids_fd < 0)
		l->ids_fd = l->o->ids_fd > 0 ? fcntl(l->o->ids_fd, F_DUPFD_CLOEXEC, 3)
					     : user_namespace_new(&spec->uid_mappings,
						       &spec->gid_mappings, err);
	return l->ids_fd < 0 ? -1 : fcntl(l->ids_fd, F_DUPFD_CLOEXEC, 3);
}

static int open_ids(
	struct container_launch *l, const struct container_step *s, int *fd, struct error *err)
{
	const struct runtime_spec *spec = l->o->spec;
	const struct runtime_mount *m = s->mount;
	bool own = m && m->uid_mappings.count;
	if (!own && !s->words.idmap)
		return 0;
	// An ordinary user's files are his container's root's anyway.
	if (s->words.idmap_optional && (geteuid() != 0 || !spec->uid_mappings.count))
		return 0;
	if (!own && !spec->uid_mappings.count)
		return error_set(err, ERROR_INVALID,
			"mount at %s: \"idmap\" needs a container with ids of its own", s->target);
	if (own)
		*fd = user_namespace_new(&m->uid_mappings, &m->gid_mappings, err);
	else
		*fd = open_own_ids(l, err);
	return *fd < 0 ? -1 : 0;
}

// With the ids, or, where that is only wished for and the file system cannot: of the topmost mount
// alone, or of none. *mapped says whether.
static int clone_with_ids(const char *path, const struct mount_words *wanted, int ids, bool *mapped,
	struct error *err)
{
	struct mount_words words = *wanted;
	int tree = container_clone_tree(AT_FDCWD, path, &words, ids, err);
	*mapped = true;
	if (tree >= 0 || !words.idmap_optional || ids < 0 || err->sys != EINVAL)
		return tree;
	words.recursive_idmap = false;
	error_clear(err);
	tree = container_clone_tree(AT_FDCWD, path, &words, ids, err);
	if (tree >= 0 || err->sys != EINVAL)
		return tree;
	*mapped = false;
	error_clear(err);
	return container_clone_tree(AT_FDCWD, path, &words, -1, err);
}

int container_bind_with_ids(const char *path, int userns_fd, struct error *err)
{
	static const struct mount_words words = {.bind = true,
		.recursive = true,
		.idmap = true,
		.recursive_idmap = true,
		.idmap_optional = true};
	bool mapped;
	return clone_with_ids(path, &words, userns_fd, &mapped, err);
}

static int open_bind(struct container_launch *l, struct container_step *s, struct error *err)
{
	cleanup_fd int ids = -1;
	struct statx st; // a server is not asked, which might not answer
	if (statx(AT_FDCWD, s->source, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, STATX_TYPE, &st) <
		0)
		return error_set_errno(err, errno, "mount of %s", s->source);
	if (open_ids(l, s, &ids, err) < 0)
		return -1;
	bool mapped;
	s->tree_fd = clone_with_ids(s->source, &s->words, ids, &mapped, err);
	if (!mapped && l->o->warnings)
		buffer_printf(l->o->warnings,
			"%s: its file system cannot map ids; in the container its files belong to "
			"nobody\n",
			s->source);
	if (s->tree_fd >= 0)
		return 0;
	if (err->sys == EPERM && ids < 0) {
		error_clear(err);
		return 0;
	}
	return error_context(err, "mount at %s", s->target);
}

// A tmpfs of the node's own user namespace: device nodes in one that the container had mounted
// would not work. Its files belong to the container's root. Without a user namespace the child can
// make it as well, in the order of the mounts (newer kernels show them by their age).
static int open_devices(struct container_launch *l, struct container_step *s, struct error *err)
{
	const struct runtime_spec *spec = l->o->spec;
	uint32_t uid = 0, gid = 0;
	if (!spec->namespaces[RUNTIME_NAMESPACE_USER].wanted)
		return 0;
	user_namespace_outside(&spec->uid_mappings, 0, &uid);
	user_namespace_outside(&spec->gid_mappings, 0, &gid);
	cleanup_free char *options = xasprintf("%s%suid=%u,gid=%u",
		s->words.data ? s->words.data : "", s->words.data ? "," : "", uid, gid);
	cleanup_fd int fs =
		container_new_filesystem("tmpfs", s->mount->source, options, s->words.set, err);
	if (fs < 0 && err->sys != EPERM)
		return error_context(err, "mount at %s", s->target);
	if (fs >= 0 && container_make_devices(fs, spec, false, err) == 0) {
		s->tree_fd = steal_fd(&fs);
		return 0;
	}
	if (err->sys != EPERM)
		return -1;
	error_clear(err);
	return 0;
}

static int open_root(struct container_launch *l, struct error *err)
{
	const struct container_options *o = l->o;
	static const struct mount_words words = {.recursive = true};
	if (o->rootfs_fd >= 0) {
		l->root_fd = fcntl(o->rootfs_fd, F_DUPFD_CLOEXEC, 3);
		return l->root_fd < 0 ? error_set_errno(err, errno, "root file system") : 0;
	}
	if (o->mount_root)
		return 0;
	const char *path = o->spec->root_path;
	if (!path || (*path != '/' && !o->bundle))
		return error_set(err, ERROR_INVALID, "root.path: missing or relative");
	cleanup_free char *joined = *path == '/' ? xstrdup(path) : path_join(o->bundle, path);
	l->root_fd = container_clone_tree(AT_FDCWD, joined, &words, -1, err);
	if (l->root_fd >= 0)
		return 0;
	if (err->sys != EPERM)
		return error_context(err, "root file system");
	error_clear(err);
	return 0;
}

int container_sources_open(struct container_launch *l, struct arena *a, struct error *err)
{
	const struct runtime_spec *spec = l->o->spec;
	l->root_fd = l->ids_fd = -1;
	for (int i = 0; i < RUNTIME_NAMESPACES; i++)
		l->joined[i] = -1;
	if (container_plan(a, spec, l->o->bundle, &l->plan, err) < 0 ||
		open_namespaces(l, err) < 0 || open_root(l, err) < 0)
		return -1;
	for (size_t i = 0; i < l->plan.count; i++) {
		struct container_step *s = &l->plan.steps[i];
		if ((s->kind == STEP_BIND && open_bind(l, s, err) < 0) ||
			(s->kind == STEP_DEVICES && open_devices(l, s, err) < 0))
			return -1;
	}
	if (spec->seccomp.default_action && !weakened("seccomp"))
		return seccomp_compile(a, &spec->seccomp, &l->seccomp, err);
	return 0;
}

void container_sources_close(struct container_launch *l)
{
	close_fdp(&l->root_fd);
	close_fdp(&l->ids_fd);
	for (int i = 0; i < RUNTIME_NAMESPACES; i++)
		close_fdp(&l->joined[i]);
	for (size_t i = 0; i < l->plan.count; i++)
		close_fdp(&l->plan.steps[i].tree_fd);
}
