// SPDX-License-Identifier: Apache-2.0
//
// Looks after one mount while the job runs: the helper's end, what it prints, and whether the mount
// answers. Looks (statfs(2) in a child) come every interval, with a third of it as their deadline;
// after two without an answer the mount is aborted. statfs and no more: a helper answers that by
// itself, however slow its server is.
#pragma once

#include "agent/data/mount.h"

typedef void mount_died_fn(
	void *data, struct data_mount *m, enum data_failure failure, const char *text);

// m->watch is set. `died` is told once.
int mount_watch_start(struct data_mount *m, struct loop *loop, int64_t interval_ms,
	mount_died_fn *died, void *data, struct error *err);
void mount_watch_stop(struct data_mount *m); // fine on one that is not watched
// Is this one of its processes?
bool mount_watch_owns(const struct data_mount *m, pid_t pid);
