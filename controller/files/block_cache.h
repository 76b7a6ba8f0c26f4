// SPDX-License-Identifier: Apache-2.0
//
// Bytes of blobs that were read a moment ago, by their place in the blob. What is there never
// changes, so nothing has to be forgotten; the least recently used makes room. Safe for threads.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BLOCK_CACHE_BLOCKS = 64 }; // of at most PIECE_BLOCK bytes each

struct block_cache;
struct block_cache *block_cache_new(void);
void block_cache_free(struct block_cache *c);

// How many bytes from `offset` on were put into `data`, at most `size`; 0: none are known.
size_t block_cache_get(
	struct block_cache *c, const char *blob, uint64_t offset, void *data, size_t size);
bool block_cache_has(struct block_cache *c, const char *blob, uint64_t offset);
void block_cache_put(
	struct block_cache *c, const char *blob, uint64_t start, const void *data, size_t size);
