// SPDX-License-Identifier: Apache-2.0
//
// The on-disk structures of EROFS as far as an uncompressed image without chunks needs them.
// Everything is little-endian. Facts: Linux Documentation/filesystems/erofs.rst and
// fs/erofs/erofs_fs.h.
#pragma once

#include <stdint.h>

enum {
	EROFS_BLOCK_BITS = 12,
	EROFS_BLOCK = 1 << EROFS_BLOCK_BITS,
	EROFS_SUPER_OFFSET = 1024,
	EROFS_SLOT = 32, // an inode number ("nid") counts these from the start of the image
	EROFS_XATTR_ALIGN = 4,
	EROFS_NAME_MAX = 255,
};

#define EROFS_MAGIC 0xE0F5E1E2u

// Compatible features: an old kernel mounts the image and ignores them.
#define EROFS_FEATURE_COMPAT_SB_CHKSUM 0x1u
#define EROFS_FEATURE_COMPAT_MTIME     0x2u

struct erofs_super_block {
	uint32_t magic;
	uint32_t checksum; // crc32c of the block from here on, with this field 0
	uint32_t feature_compat;
	uint8_t blkszbits;
	uint8_t sb_extslots;
	uint16_t root_nid;
	uint64_t inos;
	uint64_t build_time;
	uint32_t build_time_nsec;
	uint32_t blocks;
	uint32_t meta_blkaddr;
	uint32_t xattr_blkaddr;
	uint8_t uuid[16];
	uint8_t volume_name[16];
	uint32_t feature_incompat;
	uint8_t reserved[44];
};
_Static_assert(sizeof(struct erofs_super_block) == 128, "the superblock has 128 bytes");

enum erofs_layout {
	EROFS_FLAT_PLAIN = 0,  // all data in blocks
	EROFS_FLAT_INLINE = 2, // whole blocks, then the tail behind the inode
};

// i_format: bit 0 is the version, bits 1 to 3 the layout.
#define EROFS_FORMAT_EXTENDED	  0x1u
#define EROFS_FORMAT_LAYOUT_SHIFT 1

struct erofs_inode_compact {
	uint16_t i_format;
	uint16_t i_xattr_icount; // 0, or 1 + (bytes behind the 12-byte header) / 4
	uint16_t i_mode;
	uint16_t i_nlink;
	uint32_t i_size;
	uint32_t i_reserved;
	uint32_t i_u; // first data block, or the device number
	uint32_t i_ino;
	uint16_t i_uid;
	uint16_t i_gid;
	uint32_t i_reserved2;
};
_Static_assert(sizeof(struct erofs_inode_compact) == 32, "a compact inode has 32 bytes");

struct erofs_inode_extended {
	uint16_t i_format;
	uint16_t i_xattr_icount;
	uint16_t i_mode;
	uint16_t i_reserved;
	uint64_t i_size;
	uint32_t i_u;
	uint32_t i_ino;
	uint32_t i_uid;
	uint32_t i_gid;
	uint64_t i_mtime;
	uint32_t i_mtime_nsec;
	uint32_t i_nlink;
	uint8_t i_reserved2[16];
};
_Static_assert(sizeof(struct erofs_inode_extended) == 64, "an extended inode has 64 bytes");

enum { EROFS_XATTR_HEADER = 12, EROFS_XATTR_COUNT_MAX = 65535 };

struct erofs_xattr_entry {
	uint8_t e_name_len;
	uint8_t e_name_index;
	uint16_t e_value_size;
};

enum erofs_xattr_index {
	EROFS_XATTR_USER = 1,
	EROFS_XATTR_ACL_ACCESS = 2,
	EROFS_XATTR_ACL_DEFAULT = 3,
	EROFS_XATTR_TRUSTED = 4,
	EROFS_XATTR_SECURITY = 6,
};

struct erofs_dirent {
	uint64_t nid;
	uint16_t nameoff; // the first one's / 12 is the number of entries in the block
	uint8_t file_type;
	uint8_t reserved;
} __attribute__((packed));
_Static_assert(sizeof(struct erofs_dirent) == 12, "a directory entry has 12 bytes");

enum erofs_file_type {
	EROFS_FT_REGULAR = 1,
	EROFS_FT_DIRECTORY = 2,
	EROFS_FT_CHARACTER = 3,
	EROFS_FT_BLOCK = 4,
	EROFS_FT_FIFO = 5,
	EROFS_FT_SYMLINK = 7,
};
