// SPDX-License-Identifier: Apache-2.0
//
// Directories are written last, when all names are known: all inodes with their tails in one run,
// all whole blocks of entries behind them in a second one. A first pass sizes them and gives every
// directory its number, which its parent's and its children's entries need; a second one writes.
#include "oci/layer/erofs_internal.h"

#include "base/file.h"
#include "base/memory.h"
#include "oci/layer/mark.h"

#include <endian.h>
#include <string.h>
#include <sys/stat.h>

// "." and ".." in the sorted order of a directory; every other element is a node.
#define DOT    UINT32_MAX
#define DOTDOT (UINT32_MAX - 1)

// Bytes that are written from front to back.
struct run {
	int fd;
	uint64_t offset; // of the first byte in the buffer
	size_t used;
	uint8_t *data;
};

struct pass {
	struct erofs_writer *w;
	struct erofs_tree *tree;
	uint32_t *order; // per directory its sorted entries
	uint32_t *start; // where they begin in `order`
	struct run inodes, blocks;
};

enum { RUN_SIZE = 256 * 1024 };

static int run_flush(struct run *r, struct error *err)
{
	if (r->used &&
		pwrite_all(r->fd, r->data, r->used, (off_t)r->offset, "the layer's image", err) < 0)
		return -1;
	r->offset += r->used;
	r->used = 0;
	return 0;
}

// `size` zeroed bytes at `offset`, which never goes back; what is skipped is zeros.
static uint8_t *run_at(struct run *r, uint64_t offset, size_t size, struct error *err)
{
	if (offset + size - r->offset > RUN_SIZE) {
		if (run_flush(r, err) < 0)
			return NULL;
		r->offset = offset;
	}
	size_t at = (size_t)(offset - r->offset);
	memset(r->data + r->used, 0, at + size - r->used);
	r->used = at + size;
	return r->data + at;
}

static const char *name_of(const struct erofs_tree *t, uint32_t entry, size_t *length)
{
	if (entry >= DOTDOT) {
		*length = entry == DOT ? 1 : 2;
		return "..";
	}
	*length = t->nodes[entry].name_length;
	return erofs_tree_name(t, &t->nodes[entry]);
}

static int compare_names(const void *a, const void *b, void *tree)
{
	size_t la, lb;
	const char *na = name_of(tree, *(const uint32_t *)a, &la);
	const char *nb = name_of(tree, *(const uint32_t *)b, &lb);
	int order = memcmp(na, nb, la < lb ? la : lb);
	return order ? order : (la > lb) - (la < lb);
}

// Group the living names by directory and sort each group as the kernel's binary search expects it.
static void sort_names(struct pass *p)
{
	struct erofs_tree *t = p->tree;
	uint32_t count = t->directory_count;
	p->start = xcalloc((size_t)count + 1, sizeof(*p->start));
	for (uint32_t d = 0; d < count; d++) {
		struct erofs_directory *directory = &t->directories[d];
		directory->dead |= t->directories[directory->parent].dead;
		directory->links = 2;
		p->start[d + 1] = directory->dead ? 0 : 2;
	}
	for (uint32_t i = 0; i < t->node_count; i++) {
		struct erofs_directory *parent = &t->directories[t->nodes[i].parent];
		if (parent->dead)
			continue;
		p->start[t->nodes[i].parent + 1]++;
		parent->links += t->nodes[i].type == EROFS_FT_DIRECTORY;
	}
	for (uint32_t d = 0; d < count; d++)
		p->start[d + 1] += p->start[d];
	p->order = xreallocarray(NULL, p->start[count], sizeof(*p->order));
	cleanup_free uint32_t *next = xmemdup(p->start, count * sizeof(*next));
	for (uint32_t d = 0; d < count; d++) {
		if (t->directories[d].dead)
			continue;
		p->order[next[d]++] = DOT;
		p->order[next[d]++] = DOTDOT;
	}
	for (uint32_t i = 0; i < t->node_count; i++)
		if (!t->directories[t->nodes[i].parent].dead)
			p->order[next[t->nodes[i].parent]++] = i;
	for (uint32_t d = 0; d < count; d++)
		qsort_r(p->order + p->start[d], p->start[d + 1] - p->start[d], sizeof(*p->order),
			compare_names, t);
}

// The entries from `from` on that fill one block; *used is what they take of it.
static uint32_t block_end(const struct pass *p, uint32_t from, uint32_t end, size_t *used)
{
	*used = 0;
	for (; from < end; from++) {
		size_t length;
		name_of(p->tree, p->order[from], &length);
		if (*used + sizeof(struct erofs_dirent) + length > EROFS_BLOCK)
			break;
		*used += sizeof(struct erofs_dirent) + length;
	}
	return from;
}

static void describe(const struct pass *p, uint32_t index, struct erofs_inode *i)
{
	const struct erofs_directory *d = &p->tree->directories[index];
	*i = (struct erofs_inode){
		.mode = d->mode,
		.size = d->size,
		.u = d->block,
		.ino = d->ino,
		.uid = d->uid,
		.gid = d->gid,
		.links = d->links,
		.mtime = d->mtime,
		.mtime_nsec = d->mtime_nsec,
		.xattr_size = d->xattr_size,
	};
	size_t item =
		erofs_inode_head_size(i, &p->w->build) + i->xattr_size + i->size % EROFS_BLOCK;
	size_t space = index ? EROFS_BLOCK : EROFS_ROOT_SPACE;
	if (i->size % EROFS_BLOCK && item <= space)
		i->layout = EROFS_FLAT_INLINE;
}

// The bytes of an inode and what stands behind it; the bytes in blocks go to *body.
static size_t item_size(const struct pass *p, const struct erofs_inode *i, uint64_t *body)
{
	size_t tail = i->layout == EROFS_FLAT_INLINE ? i->size % EROFS_BLOCK : 0;
	*body = i->size - tail;
	return erofs_inode_head_size(i, &p->w->build) + i->xattr_size + tail;
}

// Is a directory below the root, whose own mark is not meant, implicit?
static bool has_implicit(const struct erofs_tree *t)
{
	for (uint32_t i = 1; i < t->directory_count; i++)
		if (t->directories[i].implicit && !t->directories[i].dead)
			return true;
	return false;
}

static bool has_whiteouts(const struct pass *p, uint32_t directory)
{
	for (uint32_t i = p->start[directory]; i < p->start[directory + 1]; i++)
		if (p->order[i] < DOTDOT &&
			(p->tree->nodes[p->order[i]].flags & EROFS_NODE_WHITEOUT))
			return true;
	return false;
}

static int add_marks(struct pass *p, uint32_t index, struct error *err)
{
	struct erofs_directory *d = &p->tree->directories[index];
	bool below = index == 0 && has_implicit(p->tree), whiteouts = has_whiteouts(p, index);
	struct buffer *b = &p->w->xattrs;
	if (!d->opaque && !d->implicit && !below && !whiteouts)
		return 0;
	buffer_clear(b);
	if (d->xattr_size)
		buffer_append(b, d->xattrs, d->xattr_size);
	if (d->opaque)
		erofs_xattrs_add_mark(b, LAYER_MARK_OPAQUE, "y");
	if (d->implicit)
		erofs_xattrs_add_mark(b, LAYER_MARK_IMPLICIT, "y");
	if (below)
		erofs_xattrs_add_mark(b, LAYER_MARK_BELOW, "y");
	if (whiteouts)
		erofs_xattrs_add_mark(b, LAYER_MARK_WHITEOUTS, "");
	if (erofs_tree_charge(p->tree, b->size, err) < 0)
		return -1;
	void *copy = arena_alloc(&p->tree->arena, b->size);
	memcpy(copy, b->data, b->size);
	d->xattrs = copy;
	d->xattr_size = (uint32_t)b->size;
	return 0;
}

// First pass: every directory's size, number and blocks.
static int lay_out(struct pass *p, struct error *err)
{
	struct erofs_output *o = &p->w->output;
	uint64_t at = o->next_block * EROFS_BLOCK, blocks = 0, taken;
	p->inodes.offset = at;
	for (uint32_t index = 0; index < p->tree->directory_count; index++) {
		struct erofs_directory *d = &p->tree->directories[index];
		if (d->dead)
			continue;
		if (add_marks(p, index, err) < 0)
			return -1;
		size_t used;
		uint32_t i = p->start[index], end = p->start[index + 1];
		for (d->size = 0; (i = block_end(p, i, end, &used)) < end;)
			d->size += EROFS_BLOCK;
		d->size += used;
		d->ino = p->w->next_ino++;
		struct erofs_inode inode;
		uint64_t body;
		describe(p, index, &inode);
		size_t size = item_size(p, &inode, &body);
		d->block = (uint32_t)blocks; // relative, until it is known where they begin
		blocks += (body + EROFS_BLOCK - 1) / EROFS_BLOCK;
		if (index == 0) {
			d->nid = EROFS_ROOT_OFFSET / EROFS_SLOT;
			continue;
		}
		if (at % EROFS_BLOCK + size > EROFS_BLOCK)
			at += -at % EROFS_BLOCK;
		d->nid = at / EROFS_SLOT;
		at += size + -size % EROFS_SLOT;
	}
	uint64_t inode_blocks = (at - p->inodes.offset + EROFS_BLOCK - 1) / EROFS_BLOCK;
	if (erofs_output_take(o, inode_blocks + blocks, &taken, err) < 0)
		return -1;
	p->blocks.offset = (taken + inode_blocks) * EROFS_BLOCK;
	for (uint32_t index = 0; index < p->tree->directory_count; index++)
		p->tree->directories[index].block += (uint32_t)(taken + inode_blocks);
	return 0;
}

static void encode_entries(
	const struct pass *p, uint32_t index, uint32_t from, uint32_t end, uint8_t *out)
{
	const struct erofs_tree *t = p->tree;
	size_t name_offset = (end - from) * sizeof(struct erofs_dirent);
	for (uint32_t i = from; i < end; i++) {
		uint32_t entry = p->order[i];
		const struct erofs_directory *self = &t->directories[index];
		struct erofs_dirent e = {.nameoff = htole16((uint16_t)name_offset)};
		if (entry >= DOTDOT) {
			e.file_type = EROFS_FT_DIRECTORY;
			e.nid = htole64(
				entry == DOT ? self->nid : t->directories[self->parent].nid);
		} else {
			const struct erofs_node *n = &t->nodes[entry];
			e.file_type = n->type;
			e.nid = htole64(n->type == EROFS_FT_DIRECTORY ? t->directories[n->extra].nid
								      : n->nid);
		}
		memcpy(out + (i - from) * sizeof(e), &e, sizeof(e));
		size_t length;
		const char *name = name_of(t, entry, &length);
		memcpy(out + name_offset, name, length);
		name_offset += length;
	}
}

// Second pass, one directory. `item` is where its inode goes, zeroed.
static int write_directory(struct pass *p, uint32_t index, uint8_t *item, struct error *err)
{
	const struct erofs_directory *d = &p->tree->directories[index];
	struct erofs_inode inode;
	uint64_t body;
	describe(p, index, &inode);
	item_size(p, &inode, &body);
	size_t head = erofs_inode_head_size(&inode, &p->w->build), used;
	if (!body)
		inode.u = 0;
	erofs_inode_encode(&inode, &p->w->build, item);
	if (d->xattr_size)
		memcpy(item + head, d->xattrs, d->xattr_size);
	sha256_update(p->w->identity, item, head + d->xattr_size);
	uint32_t i = p->start[index], end = p->start[index + 1];
	for (uint64_t done = 0; i < end; done += EROFS_BLOCK) {
		uint32_t next = block_end(p, i, end, &used);
		uint8_t *out = item + head + d->xattr_size;
		if (done < body)
			out = run_at(&p->blocks, (d->block * (uint64_t)EROFS_BLOCK) + done,
				EROFS_BLOCK, err);
		if (!out)
			return -1;
		encode_entries(p, index, i, next, out);
		sha256_update(p->w->identity, out, used);
		i = next;
	}
	return 0;
}

static int write_all_directories(struct pass *p, uint8_t *first_block, struct error *err)
{
	p->inodes.data = xmalloc(RUN_SIZE);
	p->blocks.data = xmalloc(RUN_SIZE);
	for (uint32_t index = 0; index < p->tree->directory_count; index++) {
		const struct erofs_directory *d = &p->tree->directories[index];
		if (d->dead)
			continue;
		struct erofs_inode inode;
		uint64_t body;
		describe(p, index, &inode);
		uint8_t *item = index == 0 ? first_block + EROFS_ROOT_OFFSET
					   : run_at(&p->inodes, d->nid * EROFS_SLOT,
						     item_size(p, &inode, &body), err);
		if (!item || write_directory(p, index, item, err) < 0)
			return -1;
	}
	return run_flush(&p->inodes, err) < 0 ? -1 : run_flush(&p->blocks, err);
}

int erofs_write_directories(struct erofs_writer *w, uint8_t block[EROFS_BLOCK], struct error *err)
{
	struct pass p = {.w = w, .tree = &w->tree};
	p.inodes.fd = p.blocks.fd = w->output.fd;
	sort_names(&p);
	int r = lay_out(&p, err);
	if (r == 0)
		r = write_all_directories(&p, block, err);
	free(p.order);
	free(p.start);
	free(p.inodes.data);
	free(p.blocks.data);
	return r;
}
