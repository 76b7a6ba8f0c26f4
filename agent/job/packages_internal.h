// SPDX-License-Identifier: Apache-2.0
//
// Between packages_pip.c and packages_conda.c.
#pragma once

#include "agent/job/packages.h"
#include "base/buffer.h"

enum { PACKAGES_FILES_MAX = 32, PACKAGES_DEPTH_MAX = 8 };

struct packages_reader {
	struct arena *arena;
	int folder; // source_directory
	struct job_environment *e;
	size_t bytes, files; // read so far
	unsigned depth;
	bool constraints; // lines go there
	struct {
		dev_t dev;
		ino_t ino;
	} open[PACKAGES_DEPTH_MAX]; // those being read: one that names itself would never end
};

// A regular file below the folder, within the limits.
int packages_read_file(
	struct packages_reader *r, const char *path, struct buffer *b, struct error *err);
// One line as pip understands it; `path` is of the file it stands in.
int packages_add_line(
	struct packages_reader *r, const char *path, const char *line, struct error *err);
// Append to a list, JOB_PACKAGES_MAX at most.
int packages_append(
	struct arena *a, struct json_strings *list, const char *text, struct error *err);
