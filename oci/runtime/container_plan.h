// SPDX-License-Identifier: Apache-2.0
//
// What is mounted in a container, in order, as data: computed without privileges (and tested so),
// applied by container_mount.c.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "oci/runtime/container.h"

enum container_step_kind {
	STEP_FILESYSTEM, // a new file system of type `source` with `options`
	STEP_BIND,	 // what is at `source` on the node
	STEP_LINK,	 // a symbolic link with the text `source`
	STEP_MASK,	 // an empty folder, or /dev/null, over what is there
	STEP_READ_ONLY,	 // what is there, read-only
};

struct container_step {
	enum container_step_kind kind;
	const char *source;
	const char *target;  // absolute, in the container
	const char *options; // "size=65536k,mode=755", NULL if none
	uint64_t attributes; // MOUNT_ATTR_… (mount_setattr(2))
	bool optional;	     // passed over when the target is not there
	bool plain;	     // no symbolic link may stand in the way
	bool owned;	     // give the folder to the container's user
};

struct container_plan {
	struct container_step *steps;
	size_t count;
};

enum { CONTAINER_BINDS_MAX = 256 };

// Everything lives in the arena; strings point into the specification. ERROR_INVALID: a path that
// is not absolute or holds "..", a bind over / or below /proc or /sys. ERROR_LIMIT: too many binds.
int container_plan(struct arena *a, const struct container_spec *spec, struct container_plan *plan,
	struct error *err);
