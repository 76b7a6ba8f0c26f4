// SPDX-License-Identifier: Apache-2.0
//
// Looks after the helper of one mount while the job runs: its end, and what it prints. Whether the
// mount answers is for mount_guard.h.
#pragma once

#include "agent/data/mount.h"

typedef void mount_died_fn(
	void *data, struct data_mount *m, enum data_failure failure, const char *text);

// m->watch is set. `died` is told once, after the mount was aborted.
int mount_watch_start(struct data_mount *m, struct loop *loop, mount_died_fn *died, void *data,
	struct error *err);
// It was aborted, and why.
void mount_watch_lost(struct data_mount *m, const char *text);
void mount_watch_stop(struct data_mount *m); // fine on one that is not watched
