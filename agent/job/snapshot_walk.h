// SPDX-License-Identifier: Apache-2.0
//
// The walk through a source directory, for measuring it and for copying it: both see the same.
#pragma once

#include "agent/job/ignore.h"
#include "agent/job/snapshot.h"

#include <sys/stat.h>

struct snapshot_walk;

// What is done with an entry that is in. `at`: the folder it is in.
typedef int snapshot_entry_fn(struct snapshot_walk *w, int at, const char *name,
	const struct stat *st, struct error *err);

struct snapshot_walk {
	const struct snapshot_limits *limits;
	snapshot_entry_fn *entry; // of files and links, and of folders before what is in them
	void (*leave)(struct snapshot_walk *w); // behind what is in a folder; may be NULL
	void (*ignored)(struct snapshot_walk *w, const char *path, bool is_folder); // may be NULL
	const char **found; // which rules there were (ignore_file()); may be NULL
	void *data;

	struct ignore *ignore;
	char path[PATH_MAX]; // of the entry, from the root
	size_t path_length;
	unsigned depth;
	uint64_t entries;
};

int snapshot_walk(struct snapshot_walk *w, int source_fd, struct error *err);
