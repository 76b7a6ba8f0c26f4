// SPDX-License-Identifier: Apache-2.0
//
// The parts of a sandbox, each in a file of its own.
#pragma once

#include "agent/job/sandbox.h"

// What an ordinary user's container finds out while it mounts its root, which it alone can do. In
// memory that both processes see: `exec` and the record need it outside.
struct sandbox_seen {
	bool user_known;
	struct container_user user;
	bool certificates;
};

// sandbox_root.c: ids, the root file system where it can be mounted here, the container's user.
int sandbox_root_open(struct sandbox *s, struct error *err);
int sandbox_user_set(struct sandbox *s, int root_fd, struct error *err);
// When an ordinary user's container has been made: take over what it has found out.
void sandbox_root_seen(struct sandbox *s);
void sandbox_root_close(struct sandbox *s);

// sandbox_files.c: files of the node, for the job.
int sandbox_files_read(const char *path, struct buffer *b, struct error *err); // none: empty
int sandbox_files_add(struct sandbox *s, struct error *err);
// The node's authorities, where the image (root_fd) lacks any.
int sandbox_certificates_add(struct sandbox *s, int root_fd, struct error *err);

// sandbox_limits.c: the job's control group.
int sandbox_group_open(struct sandbox *s, struct error *err);
