// SPDX-License-Identifier: Apache-2.0
//
// From a job to its container: the runtime specification that describes it, and what the node lends
// it as long as it runs: layers, ids, a control group, a network.
#pragma once

#include "agent/job/job.h"
#include "oci/runtime/container.h"
#include "oci/runtime/network.h"
#include "oci/runtime/rootfs.h"

enum sandbox_network { SANDBOX_NETWORK_PRIVATE, SANDBOX_NETWORK_NONE, SANDBOX_NETWORK_HOST };

// What the node's configuration says of every job.
struct sandbox_limits {
	uint32_t first_id;	 // of the first job's user ids
	unsigned id_ranges;	 // how many jobs can have ids of their own at once
	bool require_ids;	 // rather no job than one with the node's ids
	const char *cgroup_root; // "/stoker"
	uint64_t pids;
	enum sandbox_network network; // of a job that does not say
};
extern const struct sandbox_limits sandbox_limits_default;

struct sandbox {
	const struct sandbox_limits *limits;
	const struct job *job;
	struct arena arena;
	struct runtime_spec spec;
	struct container_options options; // strings and arrays in the arena
	struct rootfs_layers *layers;
	int root_fd;	   // the mounted root file system
	int ids_fd;	   // the lock of the job's ids; -1: it has the node's
	int userns_fd;	   // for idmapped mounts; -1
	uint32_t first_id; // 0: the node's ids
	bool single_id;	   // of an ordinary user who has only his own
	struct cgroup *cgroup;
	struct network_plan network_plan;
	struct network network;
	enum sandbox_network network_wanted;
	bool private_network;
	int netns_fd, network_userns_fd; // the container's, for the network; -1
	struct buffer warnings;		 // one line each, for run.json
};

// Lease and mount what is needed and describe the container. Nothing runs yet.
int sandbox_open(struct sandbox *s, const struct job *job, const struct sandbox_limits *limits,
	struct error *err);
// Make the container; stdout and stderr go to output_fd.
int sandbox_start(
	struct sandbox *s, int stdin_fd, int output_fd, struct container *c, struct error *err);
// When it has ended (or never ran): proof that nothing is left, and give everything back.
int sandbox_close(struct sandbox *s, struct error *err);
