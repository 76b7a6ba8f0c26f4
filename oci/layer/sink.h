// SPDX-License-Identifier: Apache-2.0
//
// What a layer's entries go into: the EROFS writer (erofs.h) or a directory (directory.h). The tar
// reader (tar.h) calls the functions in the order of the archive; the same path may come again and
// then replaces what stood there (a directory over a directory keeps the children). Paths arrive
// normalised: relative, no empty, "." or ".." component, no trailing '/', "" for the root itself;
// every component at most 255 bytes. Missing parents are made by the sink as root-owned
// directories, mode 0755, time 0, with the marks of mark.h.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct layer_xattr {
	const char *name; // full, "security.capability"
	const void *value;
	size_t size;
};

struct layer_entry {
	const char *path; // bytes, not necessarily UTF-8
	mode_t mode;	  // type and permission bits, setuid and sticky included
	uint32_t uid, gid;
	int64_t mtime; // seconds
	uint32_t mtime_nsec;
	uint64_t size;			 // regular files
	uint32_t rdev_major, rdev_minor; // character and block devices
	const char *link;		 // target of a symbolic link
	const struct layer_xattr *xattrs;
	size_t xattr_count;
};

struct layer_sink;

struct layer_sink_functions {
	// A new entry. For a regular file of size > 0, data() calls follow, then the next add() or
	// finish(); holes are not passed and read as zeros.
	int (*add)(struct layer_sink *s, const struct layer_entry *e, struct error *err);
	// `offset` never goes back. The bytes may be referenced until flush() returns: the writer
	// gathers them and writes many files with one call.
	int (*data)(struct layer_sink *s, uint64_t offset, const void *data, size_t size,
		struct error *err);
	// A hard link to an earlier path of this layer. ERROR_INVALID if there is none.
	int (*link)(struct layer_sink *s, const char *path, const char *target, struct error *err);
	// ".wh.<name>": the name is deleted from the layers below.
	int (*whiteout)(struct layer_sink *s, const char *path, struct error *err);
	// ".wh..wh..opq": the directory hides all below.
	int (*opaque)(struct layer_sink *s, const char *path, struct error *err);
	// The memory passed to data() is about to be used again: write or copy what is referenced.
	int (*flush)(struct layer_sink *s, struct error *err);
	// All entries are there. Makes everything durable (fsync).
	int (*finish)(struct layer_sink *s, struct error *err);
	void (*free)(struct layer_sink *s);
};

struct layer_sink {
	const struct layer_sink_functions *functions;
};

struct layer_limits {
	uint64_t entries;	 // tar entries
	uint64_t bytes;		 // uncompressed stream
	uint64_t metadata_bytes; // names, link targets, xattrs in memory
};
extern const struct layer_limits layer_limits_default; // 8,000,000; 512 GiB; 512 MiB
