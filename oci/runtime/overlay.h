// SPDX-License-Identifier: Apache-2.0
//
// overlayfs over folders given by descriptor.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct overlay {
	const int *lower_fds; // top first; at least one, and two where there is no upper folder
	size_t lower_count;
	int scratch_fd; // with the folders upper/ and work/; -1: read-only
	bool userxattr;
	bool detached; // the lower folders are detached mounts, with ids mapped
	bool foreign;  // they were opened in another mount namespace, and are here under the same
		       // names
};

// A detached mount of it. By fsopen(2), layer by layer (Linux 6.7), else as overlay_mount_old().
int overlay_mount(const struct overlay *o, const char *folder, struct error *err);
// The same by mount(2), whose options must fit into a page. `folder`: any folder, used as a mount
// point in a mount namespace that ends before this returns.
int overlay_mount_old(const struct overlay *o, const char *folder, struct error *err);
// Open all anew by their names, under the same numbers, in the mount namespace that we are in now:
// a mount of another one may not be cloned (EINVAL). Only system calls. -1 with errno.
int overlay_reopen(const struct overlay *o);
