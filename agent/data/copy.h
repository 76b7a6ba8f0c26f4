// SPDX-License-Identifier: Apache-2.0
//
// Folders and files of this node, copied: by reflink where the file system can (FICLONE), else by
// copy_file_range(2). Symbolic links are copied as they are and never followed; sockets, FIFOs and
// devices are left out.
#pragma once

#include "agent/config/policies.h"
#include "agent/data/failure.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct copy {
	bool writable;	    // for a job that may change it: files 0644 or 0755, else 0444 or 0555
	uint64_t max_bytes; // 0: none
	int64_t deadline;   // monotonic ms; INT64_MAX: none
	int (*progress)(void *data, uint64_t bytes); // other than 0: canceled
	void *data;
	// Told by it.
	uint64_t bytes, files, left_out;
	enum data_failure failure;
	int64_t told_ms;
};

// What is in the folder `from` into the folder `to`.
int copy_tree(struct copy *c, int from, int to, struct error *err);
int copy_file(struct copy *c, int from, int folder_fd, const char *name, struct error *err);
// A digest of names, sizes, times and inodes, 64 hex digits: another one when anything has changed.
int copy_signature(struct copy *c, int from, const char *path, char hex[65], struct error *err);

// A path on the node that a job names: below one of the folders of the policy (none: anywhere),
// reached without following any link. O_PATH or more by `flags`.
int bind_open(const struct data_policy *policy, const char *path, int flags, int *fd,
	enum data_failure *failure, struct error *err);
