// SPDX-License-Identifier: Apache-2.0
//
// Where the synchroniser copies to, behind one small interface: a folder (outputs_folder.c); a
// controller is another file. Paths are relative, "outputs/a/b", at most OUTPUTS_PATH_MAX bytes of
// any kind but NUL, without "." and "..". One file is written at a time: it is begun by `part` or
// `append`, filled by `write` and `keep`, and ended by `finish`; another begin gives it up.
//
// Whatever changes something removes the commit mark (the manifest) first.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { OUTPUTS_PATH_MAX = 4000, OUTPUTS_DEPTH_MAX = 200 };

enum outputs_kind { OUTPUTS_ABSENT, OUTPUTS_FILE, OUTPUTS_FOLDER, OUTPUTS_LINK };

struct outputs_attributes {
	uint64_t size;
	int64_t mtime_ns;
	mode_t mode; // permissions; the target adds what its owner needs, and never set-id bits
};

// What is there already: called for folders before what they hold.
typedef void outputs_found_fn(void *data, const char *path, enum outputs_kind kind,
	const struct outputs_attributes *attributes, const char *link);

struct outputs_target;
struct outputs_target_ops {
	// Before each round: is it there, and the one that it was? The first call may make it.
	int (*open)(struct outputs_target *t, struct error *err);
	// Between rounds nothing is held there, so that it can be unmounted.
	void (*close)(struct outputs_target *t);
	// Which one it was, to tell it from what lies there when it is not mounted: read into `id`
	// after open(), or told before it, within one boot.
	void (*identity)(struct outputs_target *t, uint64_t id[2], bool tell);
	int (*list)(
		struct outputs_target *t, outputs_found_fn *found, void *data, struct error *err);
	// Logs there are of the attempt before: kept as attempts/<attempt - 1>, once. Before
	// list().
	int (*archive)(struct outputs_target *t, unsigned attempt, struct error *err);
	int (*invalidate)(struct outputs_target *t, struct error *err); // remove the commit mark

	int (*folder)(struct outputs_target *t, const char *path, mode_t mode, struct error *err);
	int (*link)(
		struct outputs_target *t, const char *path, const char *text, struct error *err);
	int (*remove)(struct outputs_target *t, const char *path, enum outputs_kind kind,
		struct error *err);
	// A rename in two steps, so that names can be exchanged: aside under a number, and back.
	int (*park)(struct outputs_target *t, const char *path, uint64_t number, struct error *err);
	int (*unpark)(
		struct outputs_target *t, uint64_t number, const char *path, struct error *err);

	// Begin to replace `path`. `resume`: what an earlier attempt left of it is kept, and its
	// size returned in *size (else 0).
	int (*part)(struct outputs_target *t, const char *path, bool resume, uint64_t *size,
		struct error *err);
	// The same by sharing the blocks of the source: 1; 0: it cannot.
	int (*clone)(struct outputs_target *t, const char *path, int source_fd, struct error *err);
	// Begin to change `path` in place, behind what is there.
	int (*append)(struct outputs_target *t, const char *path, struct error *err);
	int (*write)(struct outputs_target *t, const void *data, size_t size, uint64_t offset,
		struct error *err);
	// Take a range from what `path` is now. 1; 0: it is not there any more: begin anew.
	int (*keep)(struct outputs_target *t, uint64_t offset, uint64_t size, struct error *err);
	int (*finish)(
		struct outputs_target *t, const struct outputs_attributes *a, struct error *err);
	// Only the attributes of a file.
	int (*touch)(struct outputs_target *t, const char *path, const struct outputs_attributes *a,
		struct error *err);
	// A descriptor to read what is there (NULL: what was begun by `part`); -1.
	int (*read)(struct outputs_target *t, const char *path, struct error *err);

	// The manifest: a descriptor to write it to, and then the mark: all before it is durable.
	int (*manifest)(struct outputs_target *t, struct error *err);
	int (*commit)(struct outputs_target *t, int manifest_fd, struct error *err);
	void (*free)(struct outputs_target *t);
};
struct outputs_target {
	const struct outputs_target_ops *ops;
};

// <destination>/<run id>. Both are copied.
struct outputs_target *outputs_folder_new(const char *destination, const char *run_id);

// Of a run's folder at the destination: move its logs to attempts/<attempt>; has that been done?
int outputs_archive(int run_fd, unsigned attempt, struct error *err);
bool outputs_is_archived(int run_fd, unsigned attempt);

// A folder that was opened last, so that many files of one folder cost one walk.
struct outputs_parent {
	char *path;
	int fd; // -1: none
};
// The folder of `path` below `root`, not followed out (no links, no other file system) -- or -1
// with errno. *name is the last component, inside the argument. The descriptor is p's.
int outputs_parent_open(struct outputs_parent *p, int root, const char *path, const char **name);
void outputs_parent_close(struct outputs_parent *p);
// openat2(2) of one path with these rules; -1 with errno.
int outputs_open_beneath(int root, const char *path, int flags);
// mkdirat(2) unless it is there, and open it so; -1 with errno.
int outputs_make_beneath(int at, const char *name);
// All below a folder, but for what `left_out` (to NULL) names at its top.
int outputs_list(int fd, const char *const *left_out, outputs_found_fn *found, void *data,
	struct error *err);
