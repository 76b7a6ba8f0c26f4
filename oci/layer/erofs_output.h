// SPDX-License-Identifier: Apache-2.0
//
// The image file as the EROFS writer fills it: blocks handed out from the front to the back, file
// data gathered into few large writes, and small things (inodes with what stands behind them)
// packed into metadata extents of up to 64 blocks that lie between the data.
#pragma once

#include "base/error.h"
#include "oci/layer/erofs_format.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
	EROFS_EXTENT_BLOCKS = 64,
	EROFS_GATHER_MAX = 1024, // IOV_MAX
	// A hole costs one write more; a shorter one is cheaper filled with zeros.
	EROFS_HOLE_MIN = 64 * 1024,
};

struct erofs_output {
	int fd;
	uint64_t next_block;  // the first that is not given away
	uint64_t write_start; // file offset of the first gathered slice
	uint64_t write_end;
	uint64_t synced; // writeback was started up to here
	unsigned slice_count;
	bool extent_open;
	uint32_t extent_blocks; // of the open extent, or of the next one
	uint64_t extent_block;
	uint8_t *extent;
	uint16_t used[EROFS_EXTENT_BLOCKS]; // bytes from the start of each block
	struct iovec slices[EROFS_GATHER_MAX];
};

// `fd` stays the caller's. The first block is kept for the superblock.
void erofs_output_init(struct erofs_output *o, int fd);
void erofs_output_release(struct erofs_output *o);

// Take `count` blocks; they read as zeros until written. ERROR_LIMIT past 2^32 blocks, 16 TiB.
int erofs_output_take(struct erofs_output *o, uint64_t count, uint64_t *block, struct error *err);

// Write `size` bytes at `offset`. They are referenced until erofs_output_flush().
int erofs_output_write(
	struct erofs_output *o, uint64_t offset, const void *data, size_t size, struct error *err);
// Zeros, at most EROFS_HOLE_MIN; more than a block's rest should be left as a hole.
int erofs_output_zeros(struct erofs_output *o, uint64_t offset, size_t size, struct error *err);
// Everything that was referenced is written.
int erofs_output_flush(struct erofs_output *o, struct error *err);

// Room for a metadata item of 1 to EROFS_EXTENT_BLOCKS blocks: inside one block where it fits, else
// from the start of a block on. `memory` is zeroed and may be filled until the next call of this
// function or erofs_output_close(); `offset` is its place in the image, a multiple of EROFS_SLOT.
int erofs_output_place(
	struct erofs_output *o, size_t size, uint64_t *offset, uint8_t **memory, struct error *err);
// Write the open extent.
int erofs_output_close(struct erofs_output *o, struct error *err);
