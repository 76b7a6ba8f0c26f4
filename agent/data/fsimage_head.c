// SPDX-License-Identifier: Apache-2.0
#include "agent/data/fsimage.h"

#include "base/text.h"

#include <endian.h>

enum {
	SQUASHFS_MAGIC = 0x73717368,
	EROFS_AT = 1024,
	BLOCK_BITS_MIN = 9,
	EROFS_BITS_MAX = 16,
	SQUASHFS_BITS_MIN = 12,
	SQUASHFS_BITS_MAX = 20,
};
static const uint32_t erofs_magic = 0xE0F5E1E2;

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static unsigned get16(const uint8_t *p)
{
	return p[0] | (unsigned)p[1] << 8;
}

static int torn(uint64_t need, uint64_t size, struct error *err)
{
	return error_set(err, ERROR_INTEGRITY,
		"the image is cut off: its superblock says %llu bytes, the file has %llu",
		(unsigned long long)need, (unsigned long long)size);
}

static int check_squashfs(const uint8_t *h, uint64_t size, struct error *err)
{
	uint64_t used = get32(h + 40) | (uint64_t)get32(h + 44) << 32;
	unsigned bits = get16(h + 22);
	if (get16(h + 28) != 4)
		return error_set(err, ERROR_INVALID,
			"squashfs of version %u; only 4 can be mounted", get16(h + 28));
	if (bits < SQUASHFS_BITS_MIN || bits > SQUASHFS_BITS_MAX || get32(h + 12) != 1U << bits ||
		!get32(h + 4))
		return error_set(
			err, ERROR_INTEGRITY, "the squashfs image's superblock is damaged");
	return used > size ? torn(used, size, err) : 0;
}

static int check_erofs(const uint8_t *h, uint64_t size, struct error *err)
{
	unsigned bits = h[12];
	if (bits < BLOCK_BITS_MIN || bits > EROFS_BITS_MAX)
		return error_set(err, ERROR_INTEGRITY, "the EROFS image's superblock is damaged");
	uint64_t used = (uint64_t)get32(h + 36) << bits;
	return used > size ? torn(used, size, err) : 0;
}

const char *fsimage_type(const uint8_t head[FSIMAGE_HEAD], uint64_t size, struct error *err)
{
	if (get32(head) == SQUASHFS_MAGIC)
		return check_squashfs(head, size, err) < 0 ? NULL : "squashfs";
	if (get32(head + EROFS_AT) == erofs_magic)
		return check_erofs(head + EROFS_AT, size, err) < 0 ? NULL : "erofs";
	error_set(err, ERROR_INVALID, "it is neither a squashfs nor an EROFS image");
	return NULL;
}
