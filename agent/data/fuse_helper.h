// SPDX-License-Identifier: Apache-2.0
//
// A FUSE helper, started by a plan and waited for until its mount answers.
#pragma once

#include "agent/data/fuse_plan.h"
#include "agent/data/mount.h"

// In PATH, or at its path?
bool fuse_is_installed(const char *program);
// `image_fd`: FUSE_PLAN_FD + 1 of the helper; -1: none. Where it takes /dev/fuse the mount is made
// at m->path. Fails with the helper's last words; m->helper then may still run, and the mount be
// there.
int fuse_helper_run(struct data_mount *m, const struct fuse_plan *plan, int image_fd,
	int64_t deadline_ms, enum data_failure *failure, struct error *err);
// Wait a moment for its end, or for what it prints, which is read. true: it has ended.
bool fuse_helper_has_ended(struct data_mount *m, int wait_ms);
