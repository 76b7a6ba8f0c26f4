// SPDX-License-Identifier: Apache-2.0
//
// Which bytes of a partial download are there. The sidecar is a small file mapped MAP_SHARED: it
// survives a kill -9 of everything with the page cache; after a power cut it may claim too much,
// which the digest check finds (the part is then dropped and fetched anew). Layout: a header
// {magic, blob size, chunk size} and a watermark per chunk (bytes present from the chunk's start).
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum { PART_CHUNK = 4 * 1024 * 1024 };

struct part {
	struct part_header *header; // the mapping
	size_t mapped;
	uint64_t size; // of the blob, bytes
	uint32_t chunk_count;
	uint32_t front; // every chunk below is complete; part_contiguous() moves it on
};

// Map the sidecar, making it (all chunks empty) when it is empty, torn, or for another size.
int part_open(int map_fd, uint64_t size, struct part *p, struct error *err);
void part_close(struct part *p);

uint64_t part_chunk_start(const struct part *p, uint32_t chunk);
uint64_t part_chunk_size(const struct part *p, uint32_t chunk); // the last may be shorter
uint64_t part_have(const struct part *p, uint32_t chunk);	// bytes present in the chunk
void part_add(struct part *p, uint32_t chunk, uint64_t bytes);	// after they were written
uint64_t part_contiguous(const struct part *p); // bytes present from the start of the blob
uint64_t part_total(const struct part *p);	// bytes present in all
