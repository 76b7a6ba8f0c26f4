// SPDX-License-Identifier: Apache-2.0
//
// What is mounted in a container, in order, as data: computed without privileges (and tested so),
// carried out by container_sources.c (in the parent) and container_mount.c (in the child).
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "oci/runtime/mount_words.h"
#include "oci/runtime/spec.h"

enum container_step_kind {
	STEP_FILESYSTEM, // a new file system of type `source`
	STEP_BIND,	 // what is at `source` on the node
	STEP_DEVICES,	 // a tmpfs with all device nodes, links and folders of /dev
	STEP_CGROUP,	 // the container's view of its control groups
	STEP_MASK,	 // an empty folder, or /dev/null, over what is there
	STEP_READ_ONLY,	 // what is there, read-only
};

struct container_step {
	enum container_step_kind kind;
	const char *source;
	const char *target; // absolute, in the container
	struct mount_words words;
	const struct runtime_mount *mount; // it comes from; NULL: from another list
	bool optional;			   // passed over when the target is not there
	bool plain;			   // no symbolic link may stand in the way
	// What the parent has opened: a detached mount, or -1, when the child opens `source`.
	int tree_fd;
};

struct container_plan {
	struct container_step *steps;
	size_t count;
};

enum { CONTAINER_MOUNTS_MAX = 1024 };

// Everything lives in the arena; strings point into the specification. ERROR_INVALID: a path that
// is not absolute or holds "..", a mount over / or on or below /proc or /sys that is none of the
// kernel's file systems, a device outside of /dev. ERROR_LIMIT: too many mounts. Relative sources
// of binds are counted from `bundle` (NULL: refused).
int container_plan(struct arena *a, const struct runtime_spec *spec, const char *bundle,
	struct container_plan *plan, struct error *err);
