// SPDX-License-Identifier: Apache-2.0
//
// File-system images, looked at before the kernel does: kind, version and sizes of the superblock.
// That keeps out what is torn or something else; it makes no hostile image harmless, which is why
// the administrator must allow them (data.allow_fsimage).
#pragma once

#include "base/error.h"

#include <stdint.h>

enum { FSIMAGE_HEAD = 1024 + 128 };

// "squashfs" or "erofs"; NULL with what is wrong. `size` is the file's; `head` its first bytes,
// FSIMAGE_HEAD or, in a shorter file, all of them and zeros.
const char *fsimage_type(const uint8_t head[FSIMAGE_HEAD], uint64_t size, struct error *err);
