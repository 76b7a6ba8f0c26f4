// SPDX-License-Identifier: Apache-2.0
//
// What the node's administrator decides about every job: agent.yaml's "sandbox", "job_defaults" and
// "devices".
#pragma once

#include "base/json_decode.h"

#include <stdbool.h>
#include <stdint.h>

enum job_network { JOB_NETWORK_DEFAULT, JOB_NETWORK_PRIVATE, JOB_NETWORK_NONE, JOB_NETWORK_HOST };
// "private", "none", "host"; -1 on anything else.
int job_network_parse(const char *name);

struct job_policy {
	const char *runtime;	 // another OCI runtime: a name in PATH or a path; NULL: our own
	uint32_t first_user_id;	 // of the first job's ids; each gets 65,536
	uint64_t user_id_ranges; // how many jobs can have ids of their own at once
	bool require_user_ids;	 // rather no job than one with the node's ids
	bool allow_host_network;
	const char *cgroup;    // all jobs' groups are below: "/stoker"
	uint64_t agent_memory; // kept for supervisors, bytes (memory.min)
	struct json_strings cdi_folders;
	// Of jobs that do not say. 0: no limit; memory then is the node's without a reserve.
	enum job_network network;
	double cpus;
	uint64_t memory, pids;
	uint64_t disk;				 // of all that a job writes
	uint64_t snapshot_bytes, snapshot_files; // of source_directory; 0: agent/job/spec.h says
};
extern const struct job_policy job_policy_default;

// The groups of agent.yaml; each decodes into a struct job_policy.
json_decode_fn policy_decode_sandbox, policy_decode_job_defaults, policy_decode_devices;
// Decoders of single values, for job.yaml too.
json_decode_fn policy_decode_size;    // uint64_t: bytes
json_decode_fn policy_decode_folder;  // const char *: an absolute path
json_decode_fn policy_decode_network; // enum job_network
json_decode_fn policy_decode_cpus;    // double
json_decode_fn policy_decode_pids;    // uint64_t
// "2.5" CPUs, over 0 and JOB_CPUS_MAX at most.
enum { JOB_CPUS_MAX = 65536, JOB_PIDS_MAX = 4194304 };
bool job_cpus_parse(const char *text, double *cpus);
