// SPDX-License-Identifier: Apache-2.0
//
// Running hashes of blobs that are being appended to, so that the end of an upload need not read
// all of it again. A blob only grows and has one writer, so a hash of its first N bytes stays true.
// A fixed number is kept; the least recently used goes. Safe for threads.
#pragma once

#include "base/sha256.h"

struct blob_hashes;
struct blob_hashes *blob_hashes_new(void);
void blob_hashes_free(struct blob_hashes *t);

// Take the hash of exactly `size` bytes out of the table: NULL if it is not known (of 0 bytes it
// always is).
struct sha256 *blob_hashes_take(struct blob_hashes *t, const char *id, uint64_t size);
// Put it back, of so many bytes now. Takes it over.
void blob_hashes_put(struct blob_hashes *t, const char *id, uint64_t size, struct sha256 *h);
