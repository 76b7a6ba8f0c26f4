// SPDX-License-Identifier: Apache-2.0
#include "controller/state/controller.h"

const struct controller_limits controller_limits_default = {
	.lease_ms = 60 * 1000,
	.node_losses = 3,
	.snapshot_bytes = 300ULL * 1024 * 1024,
	.run_bytes = 0,
	.run_files = 1000 * 1000,
	.queue_max = 10 * 1000,
};
