// SPDX-License-Identifier: Apache-2.0
//
// The end of an image: link counts, directories, and when all of that is on the disk, the
// superblock.
#include "oci/layer/erofs_internal.h"

#include "base/file.h"
#include "base/memory.h"

#include <endian.h>
#include <string.h>
#include <unistd.h>

// A name of an inode that has, or had, several.
struct link_name {
	uint64_t nid;
	bool extended;
};

static int compare_links(const void *a, const void *b)
{
	uint64_t na = ((const struct link_name *)a)->nid, nb = ((const struct link_name *)b)->nid;
	return (na > nb) - (na < nb);
}

static bool is_live(const struct erofs_tree *t, const struct erofs_node *n)
{
	return !t->directories[n->parent].dead;
}

static int patch_links(
	struct erofs_writer *w, const struct link_name *l, uint64_t count, struct error *err)
{
	if (count == 1)
		return 0;
	if (!l->extended && count > UINT16_MAX)
		return error_set(err, ERROR_LIMIT,
			"a file has %llu hard links, over the limit of 65535",
			(unsigned long long)count);
	uint32_t value = htole32((uint32_t)count);
	return pwrite_all(w->output.fd, &value, l->extended ? 4 : 2,
		(off_t)(l->nid * EROFS_SLOT + erofs_links_offset(l->extended)), "the layer's image",
		err);
}

// Inodes were written with one link; those with several names get their number now. *inodes is the
// number of inodes that names lead to.
static int write_links(struct erofs_writer *w, uint64_t *inodes, struct error *err)
{
	const struct erofs_tree *t = &w->tree;
	size_t count = 0, n = 0;
	*inodes = 1; // the root
	for (uint32_t i = 0; i < t->node_count; i++) {
		bool live = is_live(t, &t->nodes[i]);
		count += live && (t->nodes[i].flags & EROFS_NODE_LINKED);
		*inodes += live;
	}
	cleanup_free struct link_name *names = xreallocarray(NULL, count, sizeof(*names));
	for (uint32_t i = 0; i < t->node_count; i++)
		if (is_live(t, &t->nodes[i]) && (t->nodes[i].flags & EROFS_NODE_LINKED))
			names[n++] = (struct link_name){
				t->nodes[i].nid, (t->nodes[i].flags & EROFS_NODE_EXTENDED) != 0};
	qsort(names, count, sizeof(*names), compare_links);
	for (size_t i = 0, end; i < count; i = end) {
		for (end = i + 1; end < count && names[end].nid == names[i].nid;)
			end++;
		*inodes -= end - i - 1;
		if (patch_links(w, &names[i], end - i, err) < 0)
			return -1;
	}
	return 0;
}

static void encode_superblock(struct erofs_writer *w, uint64_t inodes, uint8_t *block)
{
	struct erofs_super_block sb = {
		.magic = htole32(EROFS_MAGIC),
		.feature_compat =
			htole32(EROFS_FEATURE_COMPAT_SB_CHKSUM | EROFS_FEATURE_COMPAT_MTIME),
		.blkszbits = EROFS_BLOCK_BITS,
		.root_nid = htole16(EROFS_ROOT_OFFSET / EROFS_SLOT),
		.inos = htole64(inodes),
		.build_time = htole64((uint64_t)w->build.seconds),
		.build_time_nsec = htole32(w->build.nanoseconds),
		.blocks = htole32((uint32_t)w->output.next_block),
	};
	// A UUID from the content (RFC 9562, version 8): overlayfs wants different layers to
	// differ.
	uint8_t digest[SHA256_SIZE];
	sha256_final(w->identity, digest);
	memcpy(sb.uuid, digest, sizeof(sb.uuid));
	sb.uuid[6] = (uint8_t)(0x80 | (sb.uuid[6] & 0x0f));
	sb.uuid[8] = (uint8_t)(0x80 | (sb.uuid[8] & 0x3f));
	uint8_t *p = block + EROFS_SUPER_OFFSET;
	memcpy(p, &sb, sizeof(sb));
	sb.checksum = htole32(erofs_crc32c(UINT32_MAX, p, EROFS_BLOCK - EROFS_SUPER_OFFSET));
	memcpy(p, &sb, sizeof(sb));
}

int erofs_finish(struct erofs_writer *w, struct error *err)
{
	struct erofs_output *o = &w->output;
	uint8_t block[EROFS_BLOCK] = {0};
	uint64_t inodes;
	if (erofs_output_flush(o, err) < 0 || erofs_output_close(o, err) < 0 ||
		erofs_write_directories(w, block, err) < 0 || write_links(w, &inodes, err) < 0)
		return -1;
	if (ftruncate(o->fd, (off_t)(o->next_block * EROFS_BLOCK)) < 0)
		return error_set_errno(err, errno, "set the size of the layer's image");
	// The superblock makes the file an image; it must not reach the disk before what it stands
	// for.
	if (fdatasync(o->fd) < 0)
		return error_set_errno(err, errno, "fsync the layer's image");
	encode_superblock(w, inodes, block);
	if (pwrite_all(o->fd, block, sizeof(block), 0, "the layer's image", err) < 0)
		return -1;
	if (fsync(o->fd) < 0)
		return error_set_errno(err, errno, "fsync the layer's image");
	return 0;
}
