// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/erofs_metadata.h"

#include "base/memory.h"
#include "base/text.h"

#include <endian.h>
#include <string.h>

bool erofs_inode_is_compact(const struct erofs_inode *i, const struct erofs_time *build)
{
	return i->uid <= UINT16_MAX && i->gid <= UINT16_MAX && i->links <= UINT16_MAX &&
	       i->size <= UINT32_MAX && i->mtime == build->seconds &&
	       i->mtime_nsec == build->nanoseconds;
}

size_t erofs_inode_head_size(const struct erofs_inode *i, const struct erofs_time *build)
{
	return (erofs_inode_is_compact(i, build) ? sizeof(struct erofs_inode_compact)
						 : sizeof(struct erofs_inode_extended)) +
	       (i->xattr_size ? EROFS_XATTR_HEADER : 0);
}

void erofs_inode_encode(const struct erofs_inode *i, const struct erofs_time *build, uint8_t *p)
{
	uint16_t format = (uint16_t)(i->layout << EROFS_FORMAT_LAYOUT_SHIFT);
	uint16_t xattr_count =
		i->xattr_size ? (uint16_t)(1 + i->xattr_size / EROFS_XATTR_ALIGN) : 0;
	if (erofs_inode_is_compact(i, build)) {
		struct erofs_inode_compact c = {
			.i_format = htole16(format),
			.i_xattr_icount = htole16(xattr_count),
			.i_mode = htole16(i->mode),
			.i_nlink = htole16((uint16_t)i->links),
			.i_size = htole32((uint32_t)i->size),
			.i_u = htole32(i->u),
			.i_ino = htole32(i->ino),
			.i_uid = htole16((uint16_t)i->uid),
			.i_gid = htole16((uint16_t)i->gid),
		};
		memcpy(p, &c, sizeof(c));
		return; // the attributes' header is zeros
	}
	struct erofs_inode_extended x = {
		.i_format = htole16(format | EROFS_FORMAT_EXTENDED),
		.i_xattr_icount = htole16(xattr_count),
		.i_mode = htole16(i->mode),
		.i_size = htole64(i->size),
		.i_u = htole32(i->u),
		.i_ino = htole32(i->ino),
		.i_uid = htole32(i->uid),
		.i_gid = htole32(i->gid),
		.i_mtime = htole64((uint64_t)i->mtime),
		.i_mtime_nsec = htole32(i->mtime_nsec),
		.i_nlink = htole32(i->links),
	};
	memcpy(p, &x, sizeof(x));
}

static const struct {
	const char *prefix;
	enum erofs_xattr_index index;
	bool whole; // the prefix is the whole name
} namespaces[] = {
	{"user.", EROFS_XATTR_USER, false},
	{"trusted.", EROFS_XATTR_TRUSTED, false},
	{"security.", EROFS_XATTR_SECURITY, false},
	{"system.posix_acl_access", EROFS_XATTR_ACL_ACCESS, true},
	{"system.posix_acl_default", EROFS_XATTR_ACL_DEFAULT, true},
};

static void add_xattr(
	struct buffer *b, uint8_t index, const char *name, const void *value, size_t size)
{
	size_t length = strlen(name);
	struct erofs_xattr_entry entry = {(uint8_t)length, index, htole16((uint16_t)size)};
	buffer_append(b, &entry, sizeof(entry));
	buffer_append(b, name, length);
	buffer_append(b, value, size);
	static const uint8_t padding[EROFS_XATTR_ALIGN];
	buffer_append(b, padding, -(length + size) % EROFS_XATTR_ALIGN);
}

int erofs_xattrs_encode(const struct layer_entry *e, struct buffer *b, struct error *err)
{
	for (size_t i = 0; i < e->xattr_count; i++) {
		const struct layer_xattr *x = &e->xattrs[i];
		size_t n = 0;
		while (n < array_size(namespaces) &&
			!(namespaces[n].whole ? streq(x->name, namespaces[n].prefix)
					      : starts_with(x->name, namespaces[n].prefix)))
			n++;
		if (n == array_size(namespaces))
			continue;
		const char *rest = x->name + strlen(namespaces[n].prefix);
		if (!namespaces[n].whole && !*rest)
			continue; // "user." alone: no file system takes it
		if (strlen(x->name) > EROFS_NAME_MAX || x->size > UINT16_MAX)
			return error_set(err, ERROR_LIMIT,
				"%s: the attribute \"%.64s\" is over the limits of 255 bytes for "
				"its "
				"name and 65535 for its value",
				e->path, x->name);
		add_xattr(b, namespaces[n].index, rest, x->value, x->size);
		if (b->size > EROFS_XATTRS_MAX)
			return error_set(err, ERROR_LIMIT,
				"%s: its extended attributes are over the limit of %d bytes",
				e->path, EROFS_XATTRS_MAX);
	}
	return 0;
}

void erofs_xattrs_add_mark(struct buffer *b, const char *name, const char *value)
{
	add_xattr(b, EROFS_XATTR_TRUSTED, name, value, strlen(value));
}

// Castagnoli's polynomial, reflected; bit by bit, as it runs over one block of an image.
uint32_t erofs_crc32c(uint32_t crc, const void *data, size_t size)
{
	for (const uint8_t *p = data; size--; p++) {
		crc ^= *p;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
	}
	return crc;
}
