// SPDX-License-Identifier: Apache-2.0
//
// The SHA-256 of a file, by a thread of its own while the file is being sent: both read the page
// cache, and hashing takes about as long as sending.
#pragma once

#include "base/error.h"
#include "base/memory.h"

#include <stdint.h>

struct hashing;

// Of the first `size` bytes. The descriptor and the name are the caller's, and stay valid until
// hashing_free(); the descriptor's place is neither used nor moved.
struct hashing *hashing_start(int fd, const char *name, uint64_t size);
// Wait for it: 64 hexadecimal digits, which live as long as `h`; NULL with the error. Again is
// fine.
const char *hashing_wait(struct hashing *h, struct error *err);
void hashing_free(struct hashing *h); // stops it first

DEFINE_CLEANUP(hashing_free, struct hashing *, hashing_free)
#define cleanup_hashing __attribute__((cleanup(hashing_freep)))
