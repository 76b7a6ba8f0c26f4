// SPDX-License-Identifier: Apache-2.0
//
// One file to the controller: appended from where it is, then finished with its size and hash.
#pragma once

#include "agent/service/service.h"
#include "base/sha256.h"

struct link_file {
	struct service *service;
	const char *run, *path; // of the controller; "outputs/a", as in its lists
	bool part;		// what will replace the file, not the file
};

// The query of a file's requests is `rest`, "" or "?…".
const char *link_file_url(const struct link_file *f, struct arena *a, const char *rest);
// 1: the controller has it: so many bytes, and of its part. 0: it has none.
int link_file_stat(const struct link_file *f, int64_t *size, int64_t *part, struct error *err);
// From *offset to `end`. *offset is what the controller has, afterwards and on failure.
int link_file_append(
	const struct link_file *f, int fd, int64_t *offset, int64_t end, struct error *err);
// 1: the controller has something else, and has forgotten it: begin anew.
struct link_file_end {
	int64_t size, mtime_ns;
	unsigned mode;
	const char *sha256;
};
int link_file_finish(const struct link_file *f, const struct link_file_end *end, struct error *err);
