// SPDX-License-Identifier: Apache-2.0
//
// Reads an EROFS image back, for the writer's test only: every rule of the format that the kernel
// relies on is asserted on the way (order of names, items inside a block, link counts). Written
// from the format's description, not from the writer.
#pragma once

#include "base/buffer.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/layer/erofs_format.h"
#include "oci/layer/erofs_metadata.h"

#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct image {
	const uint8_t *data;
	size_t size;
	struct erofs_super_block super;
};

struct inode {
	uint64_t nid, size, data_block, tail_offset; // tail_offset 0: none
	uint32_t mode, uid, gid, links, device, mtime_nsec;
	int64_t mtime;
	bool extended;
	const uint8_t *xattrs;
	size_t xattr_size;
};

static inline void image_open(struct image *image, int fd)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_size >= EROFS_BLOCK && st.st_size % EROFS_BLOCK == 0);
	image->size = (size_t)st.st_size;
	image->data = mmap(NULL, image->size, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(image->data, MAP_FAILED);
	memcpy(&image->super, image->data + EROFS_SUPER_OFFSET, sizeof(image->super));
	assert_int_equal(le32toh(image->super.magic), EROFS_MAGIC);
	assert_int_equal(image->super.blkszbits, 12);
	assert_int_equal(image->super.feature_incompat, 0);
	assert_int_equal(le32toh(image->super.blocks), image->size / EROFS_BLOCK);
	uint8_t block[EROFS_BLOCK - EROFS_SUPER_OFFSET];
	memcpy(block, image->data + EROFS_SUPER_OFFSET, sizeof(block));
	memset(block + offsetof(struct erofs_super_block, checksum), 0, 4);
	assert_int_equal(
		le32toh(image->super.checksum), erofs_crc32c(UINT32_MAX, block, sizeof(block)));
}

static inline void image_close(struct image *image)
{
	munmap((void *)(uintptr_t)image->data, image->size);
}

static inline void read_compact(const struct image *image, const uint8_t *p, struct inode *i)
{
	struct erofs_inode_compact c;
	memcpy(&c, p, sizeof(c));
	i->mode = le16toh(c.i_mode);
	i->links = le16toh(c.i_nlink);
	i->size = le32toh(c.i_size);
	i->device = le32toh(c.i_u);
	i->uid = le16toh(c.i_uid);
	i->gid = le16toh(c.i_gid);
	i->mtime = (int64_t)le64toh(image->super.build_time);
	i->mtime_nsec = le32toh(image->super.build_time_nsec);
}

static inline void read_extended(const uint8_t *p, struct inode *i)
{
	struct erofs_inode_extended x;
	memcpy(&x, p, sizeof(x));
	i->mode = le16toh(x.i_mode);
	i->links = le32toh(x.i_nlink);
	i->size = le64toh(x.i_size);
	i->device = le32toh(x.i_u);
	i->uid = le32toh(x.i_uid);
	i->gid = le32toh(x.i_gid);
	i->mtime = (int64_t)le64toh(x.i_mtime);
	i->mtime_nsec = le32toh(x.i_mtime_nsec);
}

static inline void image_inode(const struct image *image, uint64_t nid, struct inode *i)
{
	uint64_t at = nid * EROFS_SLOT;
	assert_true(at + sizeof(struct erofs_inode_extended) <= image->size);
	const uint8_t *p = image->data + at;
	uint16_t format = (uint16_t)(p[0] | p[1] << 8), count = (uint16_t)(p[2] | p[3] << 8);
	*i = (struct inode){.nid = nid, .extended = format & 1};
	if (i->extended)
		read_extended(p, i);
	else
		read_compact(image, p, i);
	at += i->extended ? 64 : 32;
	if (count) {
		i->xattrs = image->data + at + EROFS_XATTR_HEADER;
		i->xattr_size = (size_t)(count - 1) * 4;
		at += EROFS_XATTR_HEADER + i->xattr_size;
	}
	i->data_block = i->device;
	unsigned layout = format >> 1;
	assert_true(layout == EROFS_FLAT_PLAIN || layout == EROFS_FLAT_INLINE);
	if (layout == EROFS_FLAT_INLINE) {
		size_t tail = i->size % EROFS_BLOCK;
		assert_true(tail > 0);
		assert_true(at % EROFS_BLOCK + tail <= EROFS_BLOCK); // must not cross a block
		assert_true(
			!S_ISLNK(i->mode) || at / EROFS_BLOCK == nid * EROFS_SLOT / EROFS_BLOCK);
		i->tail_offset = at;
	}
	assert_true(
		i->size == 0 || i->data_block + i->size / EROFS_BLOCK <= image->size / EROFS_BLOCK);
}

// All bytes of a file, link or directory; the caller frees.
static inline char *image_content(const struct image *image, const struct inode *i)
{
	char *content = xmalloc(i->size + 1);
	uint64_t body = i->tail_offset ? i->size / EROFS_BLOCK * EROFS_BLOCK : i->size;
	memcpy(content, image->data + i->data_block * EROFS_BLOCK, body);
	if (i->tail_offset)
		memcpy(content + body, image->data + i->tail_offset, i->size - body);
	content[i->size] = '\0';
	return content;
}

static inline int compare_bytes(const char *a, size_t la, const char *b, size_t lb)
{
	int order = memcmp(a, b, la < lb ? la : lb);
	return order ? order : (la > lb) - (la < lb);
}

typedef void entry_fn(void *context, const char *name, size_t length, uint64_t nid, unsigned type);

// Call `fn` for each entry. Asserts that the names are in strictly rising order, as the kernel's
// binary search needs them.
static inline void image_entries(
	const struct image *image, const struct inode *directory, entry_fn *fn, void *context)
{
	cleanup_free char *content = image_content(image, directory);
	const char *last = "";
	size_t last_length = 0;
	for (uint64_t at = 0; at < directory->size; at += EROFS_BLOCK) {
		const char *block = content + at;
		size_t size =
			directory->size - at < EROFS_BLOCK ? directory->size - at : EROFS_BLOCK;
		struct erofs_dirent e, next;
		memcpy(&e, block, sizeof(e));
		unsigned count = le16toh(e.nameoff) / sizeof(e);
		assert_true(count > 0);
		for (unsigned n = 0; n < count; n++) {
			memcpy(&e, block + n * sizeof(e), sizeof(e));
			const char *name = block + le16toh(e.nameoff);
			size_t length = strnlen(name, size - le16toh(e.nameoff));
			if (n + 1 < count) {
				memcpy(&next, block + (n + 1) * sizeof(e), sizeof(e));
				length = le16toh(next.nameoff) - le16toh(e.nameoff);
			}
			assert_true(length > 0 && length <= 255);
			assert_true(compare_bytes(last, last_length, name, length) < 0);
			last = name;
			last_length = length;
			fn(context, name, length, le64toh(e.nid), e.file_type);
		}
	}
}

static inline void print_xattrs(struct buffer *out, const struct inode *i)
{
	static const char *const prefixes[] = {"?", "user.", "system.posix_acl_access",
		"system.posix_acl_default", "trusted.", "?", "security."};
	for (size_t at = 0; at < i->xattr_size;) {
		struct erofs_xattr_entry x;
		memcpy(&x, i->xattrs + at, sizeof(x));
		const char *name = (const char *)i->xattrs + at + sizeof(x);
		unsigned size = le16toh(x.e_value_size);
		assert_true(x.e_name_index < array_size(prefixes));
		const char *mark = starts_with(name, "overlay.stoker.") ? name + 15 : NULL;
		if (mark && x.e_name_index == 4 && size == 1 && name[x.e_name_len] == 'y') {
			buffer_printf(out, "{%.*s}", x.e_name_len - 15, mark);
		} else {
			buffer_printf(
				out, "{%s%.*s=", prefixes[x.e_name_index], x.e_name_len, name);
			if (size <= 16)
				buffer_append(out, name + x.e_name_len, size);
			else
				buffer_printf(out, "%u bytes", size);
			buffer_puts(out, "}");
		}
		at += (sizeof(x) + x.e_name_len + size + 3) / 4 * 4;
		assert_true(at <= i->xattr_size);
	}
}

struct print {
	const struct image *image;
	struct buffer *out;
	const char *path;
	uint64_t self, parent;
	unsigned directories; // entries that are directories, "." and ".." included
};

static inline void print_inode(const struct print *p, const char *path, const struct inode *i);

static inline void print_entry(
	void *context, const char *name, size_t length, uint64_t nid, unsigned type)
{
	struct print *p = context;
	struct inode i;
	image_inode(p->image, nid, &i);
	static const unsigned types[8] = {[EROFS_FT_REGULAR] = S_IFREG,
		[EROFS_FT_DIRECTORY] = S_IFDIR,
		[EROFS_FT_CHARACTER] = S_IFCHR,
		[EROFS_FT_BLOCK] = S_IFBLK,
		[EROFS_FT_FIFO] = S_IFIFO,
		[EROFS_FT_SYMLINK] = S_IFLNK};
	assert_int_equal(i.mode & S_IFMT, types[type]);
	p->directories += type == EROFS_FT_DIRECTORY;
	if (length == 1 && name[0] == '.') {
		assert_int_equal(nid, p->self);
		return;
	}
	if (length == 2 && name[0] == '.' && name[1] == '.') {
		assert_int_equal(nid, p->parent);
		return;
	}
	cleanup_free char *path = xasprintf("%s/%.*s", p->path, (int)length, name);
	struct print below = *p;
	below.parent = p->self;
	print_inode(&below, path, &i);
}

// "path mode uid:gid links size mtime.nsec …" and a newline, then all below.
static inline void print_inode(const struct print *p, const char *path, const struct inode *i)
{
	buffer_printf(p->out, "%s %o %u:%u %u %lld.%u", *path ? path : "/", i->mode, i->uid, i->gid,
		i->links, (long long)i->mtime, i->mtime_nsec);
	if (S_ISREG(i->mode) || S_ISLNK(i->mode)) {
		cleanup_free char *content = image_content(p->image, i);
		buffer_printf(p->out, " %llu", (unsigned long long)i->size);
		if (i->size && i->size <= 32)
			buffer_printf(p->out, "=%s", content);
	}
	if (S_ISCHR(i->mode) || S_ISBLK(i->mode))
		buffer_printf(p->out, " %x", i->device);
	print_xattrs(p->out, i);
	buffer_puts(p->out, "\n");
	if (!S_ISDIR(i->mode))
		return;
	struct print below = *p;
	below.path = path;
	below.self = i->nid;
	below.directories = 0;
	image_entries(p->image, i, print_entry, &below);
	assert_int_equal(below.directories, i->links);
}

static inline void image_print(const struct image *image, struct buffer *out)
{
	struct inode root;
	uint64_t nid = le16toh(image->super.root_nid);
	image_inode(image, nid, &root);
	print_inode(
		&(struct print){.image = image, .out = out, .path = "", .parent = nid}, "", &root);
}

struct find {
	const char *name;
	uint64_t nid;
};

static inline void find_entry(
	void *context, const char *name, size_t length, uint64_t nid, unsigned type)
{
	struct find *f = context;
	(void)type;
	if (length == strlen(f->name) && memcmp(name, f->name, length) == 0)
		f->nid = nid;
}

// The inode of a name in the root.
static inline void image_find(const struct image *image, const char *name, struct inode *i)
{
	struct find f = {name, 0};
	image_inode(image, le16toh(image->super.root_nid), i);
	image_entries(image, i, find_entry, &f);
	assert_true(f.nid != 0);
	image_inode(image, f.nid, i);
}
