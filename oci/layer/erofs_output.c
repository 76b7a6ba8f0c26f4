// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/erofs_output.h"

#include "base/file.h"
#include "base/memory.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum {
	FIRST_EXTENT_BLOCKS = 4,	   // most layers are small
	WRITEBACK_STEP = 16 * 1024 * 1024, // bytes between two starts of writeback
};

// Block addresses are 32 bits, and the last one means "none".
#define BLOCKS_MAX UINT64_C(0xffffffff)

static const uint8_t zeros[EROFS_HOLE_MIN];

void erofs_output_init(struct erofs_output *o, int fd)
{
	*o = (struct erofs_output){.fd = fd, .next_block = 1, .extent_blocks = FIRST_EXTENT_BLOCKS};
	o->extent = xmalloc(EROFS_EXTENT_BLOCKS * EROFS_BLOCK);
}

void erofs_output_release(struct erofs_output *o)
{
	free(o->extent);
}

int erofs_output_take(struct erofs_output *o, uint64_t count, uint64_t *block, struct error *err)
{
	if (count > BLOCKS_MAX - o->next_block)
		return error_set(
			err, ERROR_LIMIT, "the layer needs an image over the limit of 16 TiB");
	*block = o->next_block;
	o->next_block += count;
	return 0;
}

// Start writing to the disk what the page cache has, so that the fsync at the end finds little to
// do. A hint: file systems without it say so, and nothing is lost.
static void start_writeback(struct erofs_output *o)
{
	if (o->write_start < o->synced || o->write_start - o->synced < WRITEBACK_STEP)
		return;
	sync_file_range(o->fd, (off_t)o->synced, (off_t)(o->write_start - o->synced),
		SYNC_FILE_RANGE_WRITE);
	o->synced = o->write_start;
}

int erofs_output_flush(struct erofs_output *o, struct error *err)
{
	struct iovec *slice = o->slices;
	while (o->slice_count) {
		ssize_t n = pwritev(o->fd, slice, (int)o->slice_count, (off_t)o->write_start);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_set_errno(err, n < 0 ? errno : EIO, "write the layer's image");
		o->write_start += (uint64_t)n;
		for (; o->slice_count && (size_t)n >= slice->iov_len; slice++, o->slice_count--)
			n -= (ssize_t)slice->iov_len;
		if (o->slice_count) {
			slice->iov_base = (uint8_t *)slice->iov_base + n;
			slice->iov_len -= (size_t)n;
		}
	}
	start_writeback(o);
	return 0;
}

int erofs_output_write(
	struct erofs_output *o, uint64_t offset, const void *data, size_t size, struct error *err)
{
	if (size == 0)
		return 0;
	if (offset != o->write_end || o->slice_count == EROFS_GATHER_MAX) {
		if (erofs_output_flush(o, err) < 0)
			return -1;
		o->write_start = offset;
	}
	o->slices[o->slice_count++] = (struct iovec){(void *)(uintptr_t)data, size};
	o->write_end = offset + size;
	return 0;
}

int erofs_output_zeros(struct erofs_output *o, uint64_t offset, size_t size, struct error *err)
{
	assert(size <= sizeof(zeros));
	return erofs_output_write(o, offset, zeros, size, err);
}

// Where in the open extent an item fits, as an offset into it; -1 where it does not.
static long find_room(struct erofs_output *o, size_t size)
{
	if (size <= EROFS_BLOCK) {
		for (uint32_t i = 0; i < o->extent_blocks; i++) {
			if (o->used[i] + size > EROFS_BLOCK)
				continue;
			long at = (long)i * EROFS_BLOCK + o->used[i];
			o->used[i] = (uint16_t)(o->used[i] + size);
			return at;
		}
		return -1;
	}
	uint32_t blocks = (uint32_t)((size + EROFS_BLOCK - 1) / EROFS_BLOCK), run = 0;
	for (uint32_t i = 0; i < o->extent_blocks; i++) {
		run = o->used[i] ? 0 : run + 1;
		if (run < blocks)
			continue;
		for (uint32_t j = i + 1 - blocks; j <= i; j++)
			o->used[j] = EROFS_BLOCK;
		o->used[i] = (uint16_t)(size - (blocks - 1) * (size_t)EROFS_BLOCK);
		return (long)(i + 1 - blocks) * EROFS_BLOCK;
	}
	return -1;
}

static int open_extent(struct erofs_output *o, size_t size, struct error *err)
{
	if (erofs_output_close(o, err) < 0)
		return -1;
	while ((size_t)o->extent_blocks * EROFS_BLOCK < size)
		o->extent_blocks *= 2;
	if (erofs_output_take(o, o->extent_blocks, &o->extent_block, err) < 0)
		return -1;
	memset(o->extent, 0, (size_t)o->extent_blocks * EROFS_BLOCK);
	memset(o->used, 0, sizeof(o->used));
	o->extent_open = true;
	return 0;
}

int erofs_output_place(
	struct erofs_output *o, size_t size, uint64_t *offset, uint8_t **memory, struct error *err)
{
	size = (size + EROFS_SLOT - 1) / EROFS_SLOT * EROFS_SLOT;
	assert(size && size <= EROFS_EXTENT_BLOCKS * EROFS_BLOCK);
	long at = o->extent_open ? find_room(o, size) : -1;
	if (at < 0) {
		if (open_extent(o, size, err) < 0)
			return -1;
		at = find_room(o, size);
	}
	*offset = o->extent_block * EROFS_BLOCK + (uint64_t)at;
	*memory = o->extent + at;
	return 0;
}

int erofs_output_close(struct erofs_output *o, struct error *err)
{
	if (!o->extent_open)
		return 0;
	uint32_t last = o->extent_blocks;
	while (last && !o->used[last - 1])
		last--;
	// The end of the image: give back what was not used.
	if (o->next_block == o->extent_block + o->extent_blocks)
		o->next_block = o->extent_block + last;
	o->extent_open = false;
	if (o->extent_blocks < EROFS_EXTENT_BLOCKS)
		o->extent_blocks *= 2;
	return pwrite_all(o->fd, o->extent, (size_t)last * EROFS_BLOCK,
		(off_t)(o->extent_block * EROFS_BLOCK), "the layer's image", err);
}
