// SPDX-License-Identifier: Apache-2.0
//
// Files that have no name any more and are kept by whoever has them open: no walk finds them.
#pragma once

#include "oci/runtime/cgroup.h"

#include <stdint.h>

// Bytes on disk of the unlinked files that processes of the group have open; each file once, those
// in memory (tmpfs, memfd) not. Of what ends meanwhile, or cannot be looked at, nothing.
uint64_t disk_open_bytes(const struct cgroup *g);
