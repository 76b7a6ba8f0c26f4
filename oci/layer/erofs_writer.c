// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/erofs_internal.h"

#include "base/memory.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

static struct erofs_writer *writer_of(struct layer_sink *s)
{
	return (struct erofs_writer *)s; // the sink is its first member
}

// The file's data is complete; what did not arrive is a hole.
static int close_file(struct erofs_writer *w, struct error *err)
{
	if (!w->file_open)
		return 0;
	w->file_open = false;
	if (w->position < w->file_body)
		return 0;
	// Zeros to the end of the block, so that the next file continues the same write.
	return erofs_output_zeros(
		&w->output, w->file_start + w->file_body, -w->file_body % EROFS_BLOCK, err);
}

static void set_build_time(struct erofs_writer *w, int64_t seconds, uint32_t nanoseconds)
{
	if (w->build_known)
		return;
	w->build = (struct erofs_time){seconds, nanoseconds};
	w->build_known = true;
}

// Place an inode with its attributes and `tail` bytes behind them, which the caller fills. Data
// blocks of `body` bytes follow the metadata.
static int place_inode(struct erofs_writer *w, struct erofs_inode *i, uint64_t body, size_t tail,
	struct erofs_node *n, uint8_t **tail_memory, struct error *err)
{
	size_t head = erofs_inode_head_size(i, &w->build);
	uint64_t offset, block = 0;
	uint8_t *p;
	if (erofs_output_place(&w->output, head + i->xattr_size + tail, &offset, &p, err) < 0)
		return -1;
	if (body) {
		uint64_t count = body / EROFS_BLOCK + (body % EROFS_BLOCK != 0);
		if (erofs_output_take(&w->output, count, &block, err) < 0)
			return -1;
		i->u = (uint32_t)block;
	}
	i->ino = w->next_ino++;
	erofs_inode_encode(i, &w->build, p);
	if (i->xattr_size)
		memcpy(p + head, w->xattrs.data, i->xattr_size);
	sha256_update(w->identity, p, head);
	*tail_memory = p + head + i->xattr_size;
	n->nid = offset / EROFS_SLOT;
	if (!erofs_inode_is_compact(i, &w->build))
		n->flags |= EROFS_NODE_EXTENDED;
	w->file_start = block * EROFS_BLOCK;
	return 0;
}

// Whether `tail` bytes can stand behind the inode: they must not cross the end of a block.
static bool fits_inline(const struct erofs_writer *w, const struct erofs_inode *i, size_t tail)
{
	return tail && erofs_inode_head_size(i, &w->build) + i->xattr_size + tail <= EROFS_BLOCK;
}

static int add_regular(
	struct erofs_writer *w, struct erofs_inode *i, struct erofs_node *n, struct error *err)
{
	size_t tail = i->size % EROFS_BLOCK;
	if (fits_inline(w, i, tail))
		i->layout = EROFS_FLAT_INLINE;
	else
		tail = 0;
	if (place_inode(w, i, i->size - tail, tail, n, &w->file_tail, err) < 0)
		return -1;
	w->file_open = i->size > 0;
	w->file_size = i->size;
	w->file_body = i->size - tail;
	w->position = 0;
	return 0;
}

static int add_symlink(struct erofs_writer *w, struct erofs_inode *i, const char *target,
	uint32_t node, struct error *err)
{
	size_t length = strlen(target);
	if (erofs_tree_set_target(&w->tree, node, target, err) < 0)
		return -1;
	i->size = length;
	uint8_t *memory;
	struct erofs_node *n = &w->tree.nodes[node];
	if (fits_inline(w, i, length)) {
		i->layout = EROFS_FLAT_INLINE;
		if (place_inode(w, i, 0, length, n, &memory, err) < 0)
			return -1;
		memcpy(memory, target, length);
		return 0;
	}
	// Linux before 5.14 reads an inline target only from the inode's own block.
	uint64_t offset;
	if (place_inode(w, i, length, 0, n, &memory, err) < 0)
		return -1;
	offset = w->file_start;
	cleanup_free char *block = xcalloc(1, EROFS_BLOCK);
	memcpy(block, target, length);
	return erofs_output_write(&w->output, offset, block, EROFS_BLOCK, err) < 0 ||
			       erofs_output_flush(&w->output, err) < 0
		       ? -1
		       : 0;
}

static enum erofs_file_type type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return EROFS_FT_REGULAR;
	case S_IFDIR:
		return EROFS_FT_DIRECTORY;
	case S_IFLNK:
		return EROFS_FT_SYMLINK;
	case S_IFCHR:
		return EROFS_FT_CHARACTER;
	case S_IFBLK:
		return EROFS_FT_BLOCK;
	case S_IFIFO:
		return EROFS_FT_FIFO;
	default:
		return 0;
	}
}

static int add_directory(struct erofs_writer *w, const struct layer_entry *e, struct error *err)
{
	uint32_t index = 0;
	struct erofs_place place;
	if (*e->path && (erofs_tree_locate(&w->tree, e->path, &place, err) < 0 ||
				erofs_tree_put_directory(&w->tree, &place, &index, err) < 0))
		return -1;
	if (!*e->path && w->xattrs.size > EROFS_ROOT_XATTRS_MAX)
		return error_set(err, ERROR_LIMIT,
			"the root directory's extended attributes are over the limit of %d bytes",
			EROFS_ROOT_XATTRS_MAX);
	struct erofs_directory *d = &w->tree.directories[index];
	d->mode = (uint16_t)(S_IFDIR | (e->mode & 07777));
	d->uid = e->uid;
	d->gid = e->gid;
	d->mtime = e->mtime;
	d->mtime_nsec = e->mtime_nsec;
	d->implicit = false;
	d->xattrs = NULL;
	d->xattr_size = (uint32_t)w->xattrs.size;
	if (!w->xattrs.size)
		return 0;
	if (erofs_tree_charge(&w->tree, w->xattrs.size, err) < 0)
		return -1;
	void *copy = arena_alloc(&w->tree.arena, w->xattrs.size);
	memcpy(copy, w->xattrs.data, w->xattrs.size);
	d->xattrs = copy;
	return 0;
}

static int add_inode(struct erofs_writer *w, const struct layer_entry *e, enum erofs_file_type type,
	struct error *err)
{
	struct erofs_place place;
	if (!*e->path)
		return error_set(err, ERROR_INVALID, "the root of the layer is not a directory");
	if (erofs_tree_locate(&w->tree, e->path, &place, err) < 0)
		return -1;
	uint32_t node = erofs_tree_put(&w->tree, &place, type, err);
	if (node == EROFS_NONE)
		return -1;
	struct erofs_inode i = {
		.mode = (uint16_t)e->mode,
		.uid = e->uid,
		.gid = e->gid,
		.links = 1,
		.mtime = e->mtime,
		.mtime_nsec = e->mtime_nsec,
		.xattr_size = (uint32_t)w->xattrs.size,
	};
	uint8_t *unused;
	switch (type) {
	case EROFS_FT_REGULAR:
		i.size = e->size;
		return add_regular(w, &i, &w->tree.nodes[node], err);
	case EROFS_FT_SYMLINK:
		i.mode = S_IFLNK | 0777; // as every Linux file system shows them
		return add_symlink(w, &i, e->link, node, err);
	case EROFS_FT_CHARACTER:
	case EROFS_FT_BLOCK:
		i.u = erofs_device(e->rdev_major, e->rdev_minor);
		break;
	default:
		break;
	}
	return place_inode(w, &i, 0, 0, &w->tree.nodes[node], &unused, err);
}

static int check_entry(const struct layer_entry *e, enum erofs_file_type type, struct error *err)
{
	if (!type)
		return error_set(
			err, ERROR_INVALID, "%s: not a kind of file a layer can hold", e->path);
	if (e->mtime_nsec > 999999999)
		return error_set(err, ERROR_INVALID, "%s: the time has %u nanoseconds", e->path,
			e->mtime_nsec);
	if (e->size > (uint64_t)INT64_MAX)
		return error_set(err, ERROR_INVALID, "%s: the size is negative", e->path);
	if (type == EROFS_FT_SYMLINK && (!e->link || !*e->link || strlen(e->link) >= PATH_MAX))
		return error_set(err, ERROR_INVALID, "%s: the target of the symbolic link is %s",
			e->path, e->link && *e->link ? "longer than 4095 bytes" : "empty");
	// Linux has 12 bits for the major and 20 for the minor number.
	if ((type == EROFS_FT_CHARACTER || type == EROFS_FT_BLOCK) &&
		(e->rdev_major >> 12 || e->rdev_minor >> 20))
		return error_set(err, ERROR_INVALID, "%s: there is no device %u:%u", e->path,
			e->rdev_major, e->rdev_minor);
	return 0;
}

static int writer_add(struct layer_sink *s, const struct layer_entry *e, struct error *err)
{
	struct erofs_writer *w = writer_of(s);
	enum erofs_file_type type = type_of(e->mode);
	if (close_file(w, err) < 0 || check_entry(e, type, err) < 0)
		return -1;
	set_build_time(w, e->mtime, e->mtime_nsec);
	buffer_clear(&w->xattrs);
	if (e->xattr_count && erofs_xattrs_encode(e, &w->xattrs, err) < 0)
		return -1;
	return type == EROFS_FT_DIRECTORY ? add_directory(w, e, err) : add_inode(w, e, type, err);
}

// How many bytes of whole zero blocks stand at the start.
static size_t zero_bytes(const uint8_t *p, size_t size)
{
	size_t n = 0;
	for (; n + EROFS_BLOCK <= size; n += EROFS_BLOCK) {
		uint64_t first;
		memcpy(&first, p + n, sizeof(first));
		if (first || memcmp(p + n, p + n + 8, EROFS_BLOCK - 8) != 0)
			break;
	}
	return n;
}

// Bytes for the file's blocks. Long runs of zero blocks are left out: the image has a hole there.
static int write_body(struct erofs_writer *w, const uint8_t *p, size_t size, struct error *err)
{
	uint64_t at = w->file_start + w->position;
	size_t start = 0, i = -at % EROFS_BLOCK;
	w->position += size;
	while (i + EROFS_HOLE_MIN <= size) {
		size_t zeros = zero_bytes(p + i, size - i);
		if (zeros < EROFS_HOLE_MIN) {
			i += zeros + EROFS_BLOCK;
			continue;
		}
		if (erofs_output_write(&w->output, at + start, p + start, i - start, err) < 0)
			return -1;
		start = i += zeros;
	}
	return erofs_output_write(&w->output, at + start, p + start, size - start, err);
}

static int writer_data(
	struct layer_sink *s, uint64_t offset, const void *data, size_t size, struct error *err)
{
	struct erofs_writer *w = writer_of(s);
	if (!w->file_open || offset < w->position || offset > w->file_size ||
		size > w->file_size - offset)
		return error_set(err, ERROR_INVALID, "file data outside of the file's size");
	const uint8_t *p = data;
	if (offset > w->position && w->position < w->file_body) {
		// A hole. A short one is filled, so that one write goes on.
		uint64_t end = offset < w->file_body ? offset : w->file_body;
		if (end - w->position < EROFS_HOLE_MIN &&
			erofs_output_zeros(&w->output, w->file_start + w->position,
				(size_t)(end - w->position), err) < 0)
			return -1;
	}
	w->position = offset;
	if (w->position < w->file_body && size) {
		uint64_t room = w->file_body - w->position;
		size_t n = size < room ? size : (size_t)room;
		if (write_body(w, p, n, err) < 0)
			return -1;
		p += n;
		size -= n;
	}
	if (size) {
		memcpy(w->file_tail + (w->position - w->file_body), p, size);
		w->position += size;
	}
	return 0;
}

static int writer_link(
	struct layer_sink *s, const char *path, const char *target, struct error *err)
{
	struct erofs_writer *w = writer_of(s);
	struct erofs_place from, to;
	if (close_file(w, err) < 0 || erofs_tree_locate(&w->tree, target, &from, err) < 0 ||
		erofs_tree_locate(&w->tree, path, &to, err) < 0)
		return -1;
	if (from.node == EROFS_NONE || (w->tree.nodes[from.node].flags & EROFS_NODE_WHITEOUT))
		return error_set(err, ERROR_INVALID,
			"%s: the hard link's target %s is not in this layer", path, target);
	if (w->tree.nodes[from.node].type == EROFS_FT_DIRECTORY)
		return error_set(err, ERROR_INVALID, "%s: the hard link's target %s is a directory",
			path, target);
	if (from.node == to.node)
		return error_set(err, ERROR_INVALID, "%s: a hard link to itself", path);
	uint32_t node = erofs_tree_put(&w->tree, &to, w->tree.nodes[from.node].type, err);
	if (node == EROFS_NONE)
		return -1;
	struct erofs_node *n = &w->tree.nodes[node], *origin = &w->tree.nodes[from.node];
	origin->flags |= EROFS_NODE_LINKED;
	n->flags = origin->flags;
	n->nid = origin->nid;
	n->extra = origin->extra;
	return 0;
}

static int writer_whiteout(struct layer_sink *s, const char *path, struct error *err)
{
	struct erofs_writer *w = writer_of(s);
	struct erofs_place place;
	if (close_file(w, err) < 0 || erofs_tree_locate(&w->tree, path, &place, err) < 0)
		return -1;
	if (place.node != EROFS_NONE) {
		// A whiteout is about the layers below: what this layer has stays, and of a
		// directory only this layer's part (so does umoci).
		const struct erofs_node *n = &w->tree.nodes[place.node];
		if (n->type == EROFS_FT_DIRECTORY)
			w->tree.directories[n->extra].opaque = true;
		return 0;
	}
	set_build_time(w, 0, 0);
	buffer_clear(&w->xattrs);
	uint32_t node = erofs_tree_put(&w->tree, &place, EROFS_FT_CHARACTER, err);
	if (node == EROFS_NONE)
		return -1;
	w->tree.nodes[node].flags = EROFS_NODE_WHITEOUT;
	struct erofs_inode i = {.mode = S_IFCHR,
		.links = 1,
		.mtime = w->build.seconds,
		.mtime_nsec = w->build.nanoseconds};
	uint8_t *unused;
	return place_inode(w, &i, 0, 0, &w->tree.nodes[node], &unused, err);
}

static int writer_opaque(struct layer_sink *s, const char *path, struct error *err)
{
	struct erofs_writer *w = writer_of(s);
	uint32_t directory;
	if (close_file(w, err) < 0)
		return -1;
	if (erofs_tree_walk(&w->tree, path, strlen(path), &directory, err) < 0)
		return error_context(err, "%s", path);
	w->tree.directories[directory].opaque = true;
	return 0;
}

static int writer_flush(struct layer_sink *s, struct error *err)
{
	return erofs_output_flush(&writer_of(s)->output, err);
}

static int writer_finish(struct layer_sink *s, struct error *err)
{
	return close_file(writer_of(s), err) < 0 ? -1 : erofs_finish(writer_of(s), err);
}

static void writer_free(struct layer_sink *s)
{
	if (!s)
		return;
	struct erofs_writer *w = writer_of(s);
	erofs_output_release(&w->output);
	erofs_tree_release(&w->tree);
	buffer_release(&w->xattrs);
	sha256_free(w->identity);
	free(w);
}

static const struct layer_sink_functions functions = {
	.add = writer_add,
	.data = writer_data,
	.link = writer_link,
	.whiteout = writer_whiteout,
	.opaque = writer_opaque,
	.flush = writer_flush,
	.finish = writer_finish,
	.free = writer_free,
};

struct layer_sink *erofs_writer_new(int fd, const struct layer_limits *limits)
{
	struct erofs_writer *w = xcalloc(1, sizeof(*w));
	w->sink.functions = &functions;
	w->next_ino = 1;
	w->identity = sha256_new();
	erofs_output_init(&w->output, fd);
	erofs_tree_init(&w->tree, limits->metadata_bytes);
	return &w->sink;
}
