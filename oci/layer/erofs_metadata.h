// SPDX-License-Identifier: Apache-2.0
//
// Inodes and extended attributes as EROFS stores them.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "oci/layer/erofs_format.h"
#include "oci/layer/sink.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// All attributes of one inode, encoded. Linux file systems stop far below.
enum { EROFS_XATTRS_MAX = 128 * 1024 };

struct erofs_inode {
	uint16_t mode;
	enum erofs_layout layout;
	uint64_t size;
	uint32_t u; // first data block, or the device number
	uint32_t ino, uid, gid, links;
	int64_t mtime;
	uint32_t mtime_nsec;
	uint32_t xattr_size; // encoded entries, without the header
};

// The time that inodes of the compact form have.
struct erofs_time {
	int64_t seconds;
	uint32_t nanoseconds;
};

bool erofs_inode_is_compact(const struct erofs_inode *i, const struct erofs_time *build);
// Of the inode and its attributes' header: what stands before the encoded attributes.
size_t erofs_inode_head_size(const struct erofs_inode *i, const struct erofs_time *build);
// Write that head to `p`.
void erofs_inode_encode(const struct erofs_inode *i, const struct erofs_time *build, uint8_t *p);
// The offset and size of the link count in an inode of either form.
static inline size_t erofs_links_offset(bool extended)
{
	return extended ? offsetof(struct erofs_inode_extended, i_nlink)
			: offsetof(struct erofs_inode_compact, i_nlink);
}

// Append the attributes of an entry to `b`, encoded. Namespaces that neither EROFS nor any Linux
// file system stores are left out, as unpackers do. ERROR_LIMIT for what EROFS cannot hold.
int erofs_xattrs_encode(const struct layer_entry *e, struct buffer *b, struct error *err);
// Append trusted.<name> = value: the marks of oci/layer/mark.h.
void erofs_xattrs_add_mark(struct buffer *b, const char *name, const char *value);

// The device number as the kernel encodes it.
static inline uint32_t erofs_device(uint32_t major, uint32_t minor)
{
	return (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
}

uint32_t erofs_crc32c(uint32_t crc, const void *data, size_t size);
