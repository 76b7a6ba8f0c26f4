// SPDX-License-Identifier: Apache-2.0
//
// A folder read as a tar archive that does not depend on when, where and by whom it was made: names
// of each folder in the order of their bytes, owner 0:0, one time for all (1980-01-01, which zip
// archives can express as well), mode 0755 for folders and for files that their owner may execute,
// else 0644; no extended attributes. Of a file with several names the first is the file, the others
// are hard links. The archive of what tar_read() made of the archive is the same again.
//
// Refused with ERROR_INVALID, naming the path: devices, sockets, FIFOs, names that begin with
// ".wh." (in a layer they would delete), names that are too long or too deep for a layer, mount
// points, and a file that changes while it is read. The tree may be a stranger's work: nothing but
// names relative to held descriptors, no link is followed.
#pragma once

#include "base/memory.h"
#include "oci/layer/sink.h"

#include <sys/types.h>

enum { TREE_TAR_TIME = 315532800, TREE_TAR_DEPTH_MAX = 256 };

struct tree_tar;

// The content of `folder`, which is no entry itself; the descriptor stays the caller's.
struct tree_tar *tree_tar_new(int folder, const struct layer_limits *limits);
void tree_tar_free(struct tree_tar *t);

// Fill the buffer: less than `size` only at the end, 0 behind it, -1 on error. As
// pipeline_source.read. ERROR_LIMIT: more entries, bytes or names than the limits.
ssize_t tree_tar_read(void *tree_tar, void *buffer, size_t size, struct error *err);

DEFINE_CLEANUP(tree_tar_free, struct tree_tar *, tree_tar_free)
#define cleanup_tree_tar __attribute__((cleanup(tree_tar_freep)))
