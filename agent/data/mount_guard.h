// SPDX-License-Identifier: Apache-2.0
//
// A process beside the supervisor that looks whether mounts answer, and ends those that do not.
//
// It must be another process: the supervisor itself touches mounts when it binds them into the
// sandbox and when it looks at what the job has open, and may come to wait for one. And it sees to
// the mounts when the supervisor is killed, and to those who wait for them.
//
// Looks (statfs(2) in a child) come every interval, with a third of it as their deadline. After two
// without an answer the mount is aborted; one of a server of the network (nfs, cifs) after two
// intervals, and again every second until it answers. statfs and no more: a helper answers that by
// itself, however slow its server is.
#pragma once

#include "agent/data/mount.h"

struct mount_guard {
	struct process process; // pid 0: there is none
	int news_fd; // a struct mount_news comes for each that was aborted, or is back; -1
};

struct mount_news {
	uint32_t index, silent_s; // which one, and for how long it had not answered; 0: it is back
};

// Those that are mounted and can be aborted; none: nothing is started.
int mount_guard_start(struct mount_guard *g, struct data_mount *items, size_t count,
	int64_t interval_ms, struct error *err);
void mount_guard_stop(struct mount_guard *g);
