// SPDX-License-Identifier: Apache-2.0
//
// What a controller is made of, handed to everything that answers a request.
#pragma once

#include "controller/database/database.h"
#include "controller/database/hub.h"
#include "controller/files/blobs.h"

struct controller_limits {
	int64_t lease_ms;	       // 60 s
	uint64_t node_losses;	       // 3: an attempt more than that fails the run
	uint64_t snapshot_bytes;       // 300 MiB
	uint64_t run_bytes, run_files; // of one run's files; 0: none
	uint64_t queue_max;	       // runs that wait, of one owner
};
extern const struct controller_limits controller_limits_default;

struct controller {
	struct database *db;
	struct blobs *blobs;
	struct hub *hub;
	struct controller_limits limits;
	int64_t housekept; // when housekeeping was last done; only its thread looks at it
};
