// SPDX-License-Identifier: Apache-2.0
//
// SHA-256 of each chunk and of all chunks together, in one pass. Both digests go over the same
// blocks, so the message schedule is computed once, and the two chains of rounds, each of which
// waits for itself most of the time, run beside each other: with the SHA instructions of x86-64 two
// digests cost what one does. Elsewhere they are computed one after the other.
#pragma once

#include "base/sha256.h"

#include <stdbool.h>

struct outputs_sha {
	uint32_t state[8];
	uint64_t size;	      // so far; a multiple of 64 until the last chunk
	struct sha256 *plain; // where there are no such instructions
	bool fast;
};

void outputs_sha_init(struct outputs_sha *s);
void outputs_sha_release(struct outputs_sha *s); // fine on a zeroed one
// The next chunk and its own digest. All chunks but the last have a multiple of 64 bytes.
void outputs_sha_chunk(
	struct outputs_sha *s, const void *data, size_t size, uint8_t digest[SHA256_SIZE]);
// Of one text, by the same instructions: small files are many.
void outputs_sha_of(const void *data, size_t size, uint8_t digest[SHA256_SIZE]);
// Of all chunks; only release may follow.
void outputs_sha_final(struct outputs_sha *s, uint8_t digest[SHA256_SIZE]);
