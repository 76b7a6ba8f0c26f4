// SPDX-License-Identifier: Apache-2.0
//
// Files that the users of an ordinary user's container have made belong to ids of his ranges, and
// he could neither read nor remove them.
#pragma once

#include "base/error.h"

#include <sys/types.h>

// Give everything in the folders of a run's attempt to ourselves, with the privileges over those
// ids that a user namespace gives. As root, and where there are no such ids, nothing is to be done.
int ownership_take_back(int attempt_fd, struct error *err);
// Give a folder of the attempt and everything in it to that user.
int ownership_give(int attempt_fd, const char *folder, uid_t uid, gid_t gid, struct error *err);
