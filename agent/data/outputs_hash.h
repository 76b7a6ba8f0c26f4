// SPDX-License-Identifier: Apache-2.0
//
// SHA-256 of a file's chunks, or of all of it, or both, by a thread of its own: while chunks are
// hashed, those before are written and the next are read.
#pragma once

#include "base/error.h"
#include "base/sha256.h"

#include <stdbool.h>

enum { OUTPUTS_CHUNK = 4 * 1024 * 1024, OUTPUTS_SLOTS = 6 };

struct outputs_hasher;

struct outputs_hasher *outputs_hasher_new(
	struct error *err);			    // starts the thread; sha256_prepare() first
void outputs_hasher_free(struct outputs_hasher *h); // NULL is fine

// A file begins: what is wanted of it. WHOLE and BOTH: what is put is all of it.
enum outputs_hash { OUTPUTS_HASH_CHUNKS, OUTPUTS_HASH_WHOLE, OUTPUTS_HASH_BOTH };
void outputs_hasher_begin(struct outputs_hasher *h, enum outputs_hash wanted);
// The next chunk; at most OUTPUTS_SLOTS may wait. The bytes stay the caller's until
// outputs_hasher_get() has returned for them.
void outputs_hasher_put(struct outputs_hasher *h, const void *data, size_t size);
// The digest of the oldest chunk put and not yet got; waits for it. (WHOLE: only waits.)
void outputs_hasher_get(struct outputs_hasher *h, uint8_t digest[SHA256_SIZE]);
// Of all of the file, after the last get.
void outputs_hasher_end(struct outputs_hasher *h, uint8_t digest[SHA256_SIZE]);
