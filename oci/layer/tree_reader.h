// SPDX-License-Identifier: Apache-2.0
//
// A folder's archive (tree_tar.h) out of a process of its own. The tree is what strangers' programs
// have left; whoever reads it may read all files, and therefore is this program started again and
// confined to that folder: chroot(2) or Landlock, no capability but CAP_DAC_READ_SEARCH, system
// calls to open, read and list. The archive comes through a pipe.
#pragma once

#include "base/process.h"
#include "oci/layer/sink.h"

struct tree_reader {
	int archive_fd; // to read from; the caller may close it early (and set it to -1)
	// Internal.
	int socket;
	struct process process;
};

int tree_reader_start(
	int folder, const struct layer_limits *limits, struct tree_reader *r, struct error *err);
// After the archive's end: was it whole? The error of the reader if not, with the path. Blocks
// until the process has ended; so read to the end, or close archive_fd, before. ERROR_UNAVAILABLE:
// it was closed early, and nothing else went wrong.
int tree_reader_finish(struct tree_reader *r, struct error *err);
// Kills it if it runs. A zeroed one is not valid; one that tree_reader_start() failed for is.
void tree_reader_release(struct tree_reader *r);

#define cleanup_tree_reader __attribute__((cleanup(tree_reader_release)))

// main() of the helper process ("stoker tree"); its socket is descriptor 3.
int tree_reader_main(void);
