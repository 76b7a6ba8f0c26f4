// SPDX-License-Identifier: Apache-2.0
//
// A thread that hashes what another one receives and writes, for appends that are large: on one
// thread hashing takes half of the time. The bytes are gathered into blocks, which are also better
// to write than what comes from a socket at once.
#pragma once

#include "base/sha256.h"

enum { BLOB_BLOCK = 128 * 1024 };

struct blob_hasher;

// Takes `hash` over (NULL: only gathers). NULL when there is no thread to be had; then the hash is
// still the caller's.
struct blob_hasher *blob_hasher_new(struct sha256 *hash);
// A block to be filled; waits until there is one. The same one until it is given.
char *blob_hasher_block(struct blob_hasher *h);
void blob_hasher_give(struct blob_hasher *h, size_t size); // so many bytes of it are to be hashed
// Waits for all that was given, frees it, and returns the hash.
struct sha256 *blob_hasher_end(struct blob_hasher *h);
