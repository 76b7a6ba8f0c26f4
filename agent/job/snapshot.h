// SPDX-License-Identifier: Apache-2.0
//
// The copy of a source directory that a job works in: later edits of the original do not reach it,
// and what the job writes does not reach the original.
#pragma once

#include "base/error.h"

#include <sys/types.h>

// Copy the tree `source_fd` into the empty folder `target_fd`. Symbolic links are copied, never
// followed; modes are kept, readable by all, since the container's user may be anybody; owners are
// ours; sockets, FIFOs and devices are passed over, and so is the folder (skip_dev, skip_ino) and
// what is below: the state directory, which may lie in the source directory. ERROR_LIMIT: deeper
// than 100 folders.
int snapshot_copy(int source_fd, int target_fd, dev_t skip_dev, ino_t skip_ino, struct error *err);
