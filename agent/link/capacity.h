// SPDX-License-Identifier: Apache-2.0
//
// What this node has for jobs, and what of it is taken by the attempts that it holds.
#pragma once

#include "agent/device/device.h"
#include "agent/link/link.h"

// A job's share of a node: what it asks for (the controller counts in the same way), 1 CPU where it
// does not say.
struct share {
	double cpus;
	uint64_t memory, gpus;
};
// Of a start as the controller gives it.
struct share share_of(const struct json *start);

struct capacity {
	double cpus;		  // that affinity and control groups let the agent use
	uint64_t memory;	  // the machine's, or what control groups leave of it
	uint64_t disk, disk_free; // of the file system with the state directory, bytes
	struct device_view *gpus; // that `resources.gpus` may choose
	size_t gpu_count;
	uint64_t gpus_ready; // that are free, or held by an attempt of the controller's
	struct share used;   // by attempts that have not ended
	unsigned attempts;
};
// Takes the link's lock. What cannot be found out is 0 or none.
void capacity_read(struct link *l, struct arena *a, struct capacity *c);
// Is this GPU one of gpus_ready?
bool capacity_is_ready(struct link *l, const struct device_view *gpu);
// Is there room for this much more? false: `reason` says what is missing.
bool capacity_fits(
	const struct capacity *c, const struct share *more, struct arena *a, const char **reason);
// As the poll's "resources".
void capacity_write(struct json_writer *w, struct link *l, const struct capacity *c);
