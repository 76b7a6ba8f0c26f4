// SPDX-License-Identifier: Apache-2.0
#include "agent/job/sandbox_hooks.h"

#include "base/file.h"
#include "base/time.h"
#include "oci/runtime/hooks.h"
#include "oci/runtime/state.h"

#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static int state_document(const struct sandbox *s, enum runtime_status status, pid_t pid,
	const char *bundle, struct buffer *out, struct error *err)
{
	char created[TIME_TEXT_SIZE];
	cleanup_free char *rootfs = xasprintf("%s/rootfs", bundle);
	const struct runtime_state state = {
		.id = s->job.run->id,
		.bundle = bundle,
		.rootfs = rootfs,
		.created = format_time(s->job.run->created_ms, created),
		.annotations = s->spec.annotations,
	};
	return runtime_state_document(&state, status, pid, false, out, err);
}

// In the container's mount namespace the node's folders are still there, but only those that
// anybody may enter: the container's root is nobody on the node. On one of these, which no hook
// needs, a small file system with the bundle is mounted; it goes with the node's root.
static const char *make_bundle(const struct sandbox *s, int root_fd, struct error *err)
{
	static const char *const places[] = {"/mnt", "/media", "/srv", "/opt"};
	cleanup_buffer struct buffer config = {0};
	struct runtime_spec spec = s->spec;
	const char *place = NULL;
	for (size_t i = 0; i < array_size(places) && !place; i++)
		if (mount("tmpfs", places[i], "tmpfs", MS_NODEV | MS_NOSUID | MS_NOEXEC,
			    "mode=755") == 0)
			place = places[i];
	if (!place) {
		error_set_errno(err, errno, "show the container to its hooks");
		return NULL;
	}
	cleanup_free char *rootfs = xasprintf("%s/rootfs", place);
	cleanup_free char *file = xasprintf("%s/config.json", place);
	cleanup_fd int tree = open_tree(
		root_fd, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	spec.root_path = rootfs;
	if (tree < 0 || mkdir(rootfs, 0755) < 0 ||
		move_mount(tree, "", AT_FDCWD, rootfs, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
		error_set_errno(err, errno, "show the container's root to its hooks");
		return NULL;
	}
	if (runtime_spec_write(&spec, &config, err) < 0 ||
		file_write_atomic(AT_FDCWD, file, config.data, config.size, 0644, err) < 0)
		return NULL;
	return place;
}

int sandbox_hook(
	void *data, enum runtime_hook_point point, pid_t pid, int root_fd, struct error *err)
{
	struct sandbox *s = data;
	cleanup_buffer struct buffer document = {0};
	if (!s->spec.hooks[point].count)
		return 0;
	const char *bundle = s->job.run->path;
	if (point == RUNTIME_HOOK_CREATE_CONTAINER)
		bundle = make_bundle(s, root_fd, err);
	enum runtime_status status =
		point == RUNTIME_HOOK_START_CONTAINER ? RUNTIME_CREATED : RUNTIME_CREATING;
	if (!bundle || state_document(s, status, pid, bundle, &document, err) < 0)
		return -1;
	return runtime_hooks_run(&s->spec, point, document.data, err);
}

void sandbox_hooks_after(
	struct sandbox *s, enum runtime_hook_point point, pid_t pid, struct buffer *warnings)
{
	cleanup_buffer struct buffer document = {0};
	struct error err;
	enum runtime_status status =
		point == RUNTIME_HOOK_POSTSTART ? RUNTIME_RUNNING : RUNTIME_STOPPED;
	if (!s->spec.hooks[point].count)
		return;
	if (state_document(s, status, pid, s->job.run->path, &document, &err) < 0)
		buffer_printf(warnings, "hooks: %s\n", err.text);
	else
		runtime_hooks_run_all(&s->spec, point, document.data, warnings);
}
