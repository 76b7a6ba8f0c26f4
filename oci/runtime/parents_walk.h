// SPDX-License-Identifier: Apache-2.0
//
// How parents.h finds the directories: a walk through what several layers have in common.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "oci/layer/sink.h"

enum { PARENTS_MEMORY_MAX = 256 * 1024 * 1024 };

// What one layer says about a directory.
struct parents_directory {
	bool implicit, opaque, below; // its marks
	uint32_t uid, gid;
	mode_t mode;
	bool xattrs; // it has some that are not overlayfs's
};

struct parents_tree {
	const int *roots; // top first
	size_t count;
	const char *prefix; // of the marks: "trusted." or "user."
};

// 1, or 0 when there is no directory at `path` ("." for the root), *gone then telling whether there
// is nothing at all; -1. *fd is the caller's to close.
int parents_look(const struct parents_tree *t, size_t layer, const char *path,
	struct parents_directory *d, int *fd, bool *gone, struct error *err);

// Put every directory with wrong attributes into a sink, right, behind the directories on the way
// to it. `open` is called before the first one and returns the sink, or NULL. ERROR_LIMIT when the
// layers have too many directories in common.
int parents_walk(const struct parents_tree *t,
	struct layer_sink *(*open)(void *data, struct error *err), void *data, struct error *err);
