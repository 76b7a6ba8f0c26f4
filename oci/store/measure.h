// SPDX-License-Identifier: Apache-2.0
//
// What a tree takes on disk.
#pragma once

#include "base/error.h"

#include <stdint.h>

struct store_size {
	uint64_t bytes; // by st_blocks
	uint64_t inodes;
	uint64_t content; // of regular files, by st_size: with their holes
};

// Everything below `path`, itself included; a file with several names counts once (all names of a
// layer's file are in the layer). Symbolic links are not followed, mount points not crossed.
int measure_tree(int dirfd, const char *path, struct store_size *size, struct error *err);
