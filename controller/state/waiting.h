// SPDX-License-Identifier: Apache-2.0
//
// Why a run is still in the queue, in one line.
#pragma once

#include "controller/state/controller.h"

// In the arena; NULL: it is not in the queue.
int waiting_reason(struct database_tx *tx, struct arena *a, const char *run, int64_t now,
	const struct controller_limits *limits, const char **reason, struct error *err);
