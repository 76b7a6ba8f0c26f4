// SPDX-License-Identifier: Apache-2.0
//
// How much of the disk a folder takes, counted in small steps between other work. The folder's
// content may be anybody's and change meanwhile: no link is followed and no mount point crossed,
// and whatever happens the walk ends. Files with several names count in parts for each.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

// Below this depth nothing is counted; the free space of the disk is watched beside that.
enum { DISK_WALK_DEPTH = 128, DISK_WALK_BUFFER = 8 * 1024 };

struct disk_walk {
	struct disk_level {
		int fd;
		int64_t offset; // behind the last entry that was counted
	} levels[DISK_WALK_DEPTH];
	int depth; // 0: at its end
	dev_t device;
	uint64_t bytes, entries;
	size_t at, filled; // of the buffer, which is the deepest level's
	_Alignas(8) char buffer[DISK_WALK_BUFFER];
};

int disk_walk_begin(struct disk_walk *w, int folder_fd, struct error *err);
// Count about so many entries more. Returns true at the end: w->bytes is complete.
bool disk_walk_step(struct disk_walk *w, unsigned entries);
void disk_walk_end(struct disk_walk *w); // also in the midst; fine on a zeroed one
