// SPDX-License-Identifier: Apache-2.0
//
// From a job to its container: the runtime specification that describes it, and what the node lends
// it as long as it runs: layers, ids, a control group, a network.
#pragma once

#include "agent/config/policy.h"
#include "agent/device/device.h"
#include "agent/job/job.h"
#include "oci/runtime/container.h"
#include "oci/runtime/network.h"
#include "oci/runtime/rootfs.h"

struct sandbox {
	const struct job_policy *policy;
	struct job job;
	struct arena arena;
	struct runtime_spec spec;
	struct container_options options; // strings and arrays in the arena
	struct rootfs_layers *layers;
	int root_fd;		   // the mounted root file system
	int ids_fd;		   // the lock of the job's ids; -1: it has the node's
	int userns_fd;		   // for idmapped mounts; -1
	uint32_t first_id;	   // 0: the node's ids
	struct sandbox_seen *seen; // by an ordinary user's container; else NULL
	bool single_id;		   // of an ordinary user who has only his own
	struct cgroup *cgroup;
	bool other;   // another runtime has made the container
	bool started; // by ours
	struct network_plan network_plan;
	struct network network;
	bool private_network;
	int netns_fd, network_userns_fd; // the container's, for the network; -1
	struct cdi *cdi;
	struct device_places places;
	struct devices *devices;
	struct device_lease *lease; // of the job's devices; NULL: none
	struct buffer warnings;	    // one line each, for run.json
};

// Lease and mount what is needed and describe the container. Nothing runs yet.
//
// `policy`, and what `job` points at, live as long as the sandbox. ERROR_UNAVAILABLE: a device that
// the job needs is held by others; ERROR_DENIED: the node does not allow the job's network.
int sandbox_open(struct sandbox *s, const struct job *job, const struct job_policy *policy,
	struct error *err);
// Make the container; stdout and stderr go to output_fd.
int sandbox_start(
	struct sandbox *s, int stdin_fd, int output_fd, struct container *c, struct error *err);
// Readable when the program of the job's network has ended; -1: it has none.
int sandbox_network_fd(const struct sandbox *s);
// Start another one. Where that fails the job goes on without, and the warnings say so; it has no
// descriptor then.
void sandbox_network_ended(struct sandbox *s);
// When it has ended (or never ran): proof that nothing is left of it, and give everything back.
// What goes wrong with a device is no failure: it is set aside, and `notes` (may be NULL) says why.
int sandbox_close(struct sandbox *s, struct buffer *notes, struct error *err);
