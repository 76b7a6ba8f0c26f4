// SPDX-License-Identifier: Apache-2.0
//
// A node that takes no new runs: <state>/node/draining, which outlives the agent and a boot.
#pragma once

#include "base/error.h"

#include <stdbool.h>

int drain_set(int state_fd, bool draining, struct error *err);
bool drain_is_set(int state_fd);
