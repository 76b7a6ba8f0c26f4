// SPDX-License-Identifier: Apache-2.0
//
// The tree of names that the EROFS writer keeps in memory while the archive passes: 32 bytes and
// the name per entry, 72 bytes more per directory. Everything else about a file is already in the
// image. Names are found through one hash table over (directory, name), keyed per process against
// names made to collide.
#pragma once

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "oci/layer/erofs_format.h"
#include "oci/layer/steps.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define EROFS_NONE UINT32_MAX

enum erofs_node_flags {
	EROFS_NODE_EXTENDED = 1 << 0, // its inode has the extended form
	EROFS_NODE_LINKED = 1 << 1,   // its inode has, or had, more than one name
	EROFS_NODE_WHITEOUT = 1 << 2,
};

// A name in a directory.
struct erofs_node {
	uint64_t nid;	 // of anything but a directory
	uint32_t name;	 // offset in the tree's names
	uint32_t parent; // directory
	uint32_t next;	 // in the hash chain
	uint32_t extra;	 // directory: its index; symbolic link: offset of the target in the tree's
			 // names
	uint8_t name_length;
	uint8_t type; // enum erofs_file_type
	uint8_t flags;
};

struct erofs_directory {
	uint64_t nid;
	uint64_t size;	    // of the entries; set at the end
	int64_t mtime;	    // seconds
	const void *xattrs; // encoded entries, in the arena
	uint32_t xattr_size;
	uint32_t mtime_nsec;
	uint32_t uid, gid;
	uint32_t parent; // directory; the root's is itself
	uint32_t links;	 // subdirectories + 2; set at the end
	uint32_t block;	 // first data block; set at the end
	uint32_t ino;
	uint16_t mode;
	bool opaque : 1;
	bool dead : 1;	   // replaced by something else: it and all below is gone
	bool implicit : 1; // no entry named it, and nothing of this layer stood in its place
};

struct erofs_tree {
	struct arena arena; // attributes of directories
	struct buffer names;
	struct erofs_node *nodes;
	uint32_t node_count, node_capacity;
	struct erofs_directory *directories; // a parent stands before its children; 0 is the root
	uint32_t directory_count, directory_capacity;
	uint32_t *buckets;
	uint32_t bucket_count; // a power of two
	uint64_t key[2];
	uint64_t memory, memory_limit;
	struct steps steps;
	char *parent_path; // the parent directory that was resolved last, and what it was
	size_t parent_length;
	uint32_t parent_directory;
};

void erofs_tree_init(struct erofs_tree *t, uint64_t memory_limit);
void erofs_tree_release(struct erofs_tree *t);

// Account for `size` bytes about to be kept. ERROR_LIMIT over the limit.
int erofs_tree_charge(struct erofs_tree *t, uint64_t size, struct error *err);

// The node of a name in a directory, or EROFS_NONE.
uint32_t erofs_tree_find(
	const struct erofs_tree *t, uint32_t directory, const char *name, size_t length);

// The directory at `path` (normalised, of `length` bytes). What is missing is made; symbolic links
// of this layer are followed inside the root, as an unpacker would; a whiteout on the way becomes
// an opaque directory. ERROR_INVALID where something else stands in the way, ERROR_LIMIT when the
// layer has taken too many steps (steps.h).
int erofs_tree_walk(struct erofs_tree *t, const char *path, size_t length, uint32_t *directory,
	struct error *err);

// Resolve the parent of `path` and find its last component, which points into `path`.
struct erofs_place {
	uint32_t directory;
	uint32_t node; // or EROFS_NONE
	const char *name;
	size_t name_length;
};
int erofs_tree_locate(
	struct erofs_tree *t, const char *path, struct erofs_place *place, struct error *err);

// Put an entry of a type there, in place of what stands there. Returns its node or EROFS_NONE with
// an error; the caller fills nid and flags.
uint32_t erofs_tree_put(struct erofs_tree *t, const struct erofs_place *place,
	enum erofs_file_type type, struct error *err);
// As erofs_tree_put() for a directory, which is kept where one stands already.
int erofs_tree_put_directory(struct erofs_tree *t, const struct erofs_place *place,
	uint32_t *directory, struct error *err);
// Remember where a symbolic link leads.
int erofs_tree_set_target(
	struct erofs_tree *t, uint32_t node, const char *target, struct error *err);

static inline const char *erofs_tree_name(const struct erofs_tree *t, const struct erofs_node *n)
{
	return t->names.data + n->name;
}
