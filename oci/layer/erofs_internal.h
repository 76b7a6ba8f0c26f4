// SPDX-License-Identifier: Apache-2.0
//
// The EROFS writer's state, shared by its files: erofs_writer.c takes the entries and the data,
// erofs_directory.c writes the directories when all names are known, erofs_finish.c the rest.
#pragma once

#include "base/sha256.h"
#include "oci/layer/erofs.h"
#include "oci/layer/erofs_metadata.h"
#include "oci/layer/erofs_output.h"
#include "oci/layer/erofs_tree.h"

struct erofs_writer {
	struct layer_sink sink;
	struct erofs_output output;
	struct erofs_tree tree;
	struct buffer xattrs;	 // of the entry being added
	struct erofs_time build; // the first entry's time: what compact inodes have
	bool build_known;
	uint32_t next_ino;
	struct sha256 *identity; // over all inodes and directories; becomes the UUID
	// The regular file whose data arrives.
	bool file_open;
	uint64_t file_size;
	uint64_t file_body;  // bytes that go to blocks; the rest goes behind the inode
	uint64_t file_start; // offset of the body in the image
	uint64_t position;   // bytes of the file that are done
	uint8_t *file_tail;
};

// The root's inode stands behind the superblock: its number has 16 bits only.
enum {
	EROFS_ROOT_OFFSET = EROFS_SUPER_OFFSET + sizeof(struct erofs_super_block),
	EROFS_ROOT_SPACE = EROFS_BLOCK - EROFS_ROOT_OFFSET,
	// What is left for attributes beside the inode, with room for the marks (20 and 28 bytes).
	EROFS_ROOT_XATTRS_MAX = 2816,
};
_Static_assert(EROFS_ROOT_OFFSET % EROFS_SLOT == 0, "the root's inode is aligned");

// Write all directories. The root's inode goes into `block`, the image's first, and is not written.
int erofs_write_directories(struct erofs_writer *w, uint8_t block[EROFS_BLOCK], struct error *err);

// Everything after the last entry.
int erofs_finish(struct erofs_writer *w, struct error *err);
