// SPDX-License-Identifier: Apache-2.0
//
// The copy of a source directory that a job works in: later edits of the original do not reach it,
// and what the job writes does not reach the original. What its rules ignore (ignore.h) is left
// out, and so are `.git` and the files of the job's secrets.
#pragma once

#include "base/error.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { SNAPSHOT_SKIPPED_MAX = 100 };

struct snapshot_limits {
	uint64_t bytes, files;
	dev_t skip_dev; // a folder that is passed over with all that is in it: the state directory,
	ino_t skip_ino; // which may lie in the source directory; 0: none
	struct snapshot_file { // files that are left out, wherever they lie
		dev_t dev;
		ino_t ino;
	} skip_files[SNAPSHOT_SKIPPED_MAX];
	size_t skip_file_count;
};

struct snapshot_size {
	uint64_t bytes, files; // what would be copied; links count as files
	uint64_t ignored;      // files and folders that are left out
	const char *rules;     // ".amlignore" or ".gitignore"; NULL: there are none
	bool wanted_ignored;   // the file that was asked for is left out
};

// What a copy would have. ERROR_LIMIT if that is more than is allowed, and the text names the
// largest folder and says what helps. `wanted`: a file's path below, looked for; may be NULL.
int snapshot_measure(int source_fd, const struct snapshot_limits *limits, const char *wanted,
	struct snapshot_size *size, struct error *err);

// Copy the tree `source_fd` into the empty folder `target_fd`. Symbolic links are copied, never
// followed; modes are kept, readable by all, since the container's user may be anybody; owners are
// ours; sockets, FIFOs and devices are passed over. ERROR_LIMIT: deeper than 100 folders, rules
// that take too long, or more than is allowed (a folder may grow behind snapshot_measure()'s back).
int snapshot_copy(
	int source_fd, int target_fd, const struct snapshot_limits *limits, struct error *err);
