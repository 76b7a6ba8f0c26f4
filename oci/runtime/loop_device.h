// SPDX-License-Identifier: Apache-2.0
//
// Loop devices (loop(4)), for kernels that do not mount EROFS from a file. Needs Linux 5.8
// (LOOP_CONFIGURE).
#pragma once

#include "base/error.h"

enum { LOOP_PATH_SIZE = 32 };

// Attach a file, read-only, to a free loop device that goes away with its last user (the mount,
// once the returned descriptor is closed). Direct I/O where the file system can, so that pages are
// cached once. `path` becomes the device's. Returns the descriptor.
int loop_device_attach(int file_fd, char path[LOOP_PATH_SIZE], struct error *err);
