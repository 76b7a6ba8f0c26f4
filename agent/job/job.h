// SPDX-License-Identifier: Apache-2.0
//
// A job on this node: its specification, its run, the leased layers of its image. What is here is
// for the command that starts it; its supervisor makes a sandbox of it (sandbox.h).
#pragma once

#include "agent/config/config.h"
#include "agent/data/data.h"
#include "agent/job/run.h"
#include "agent/job/snapshot.h"
#include "agent/job/spec.h"
#include "oci/store/store.h"

// What can be said before anything is pulled: are the source directory, the entry script and the
// inputs of this node there and fit to be mounted, and is the copy not too large? ERROR_NOT_FOUND,
// ERROR_INVALID, ERROR_DENIED, ERROR_LIMIT. `snapshot` may be NULL.
int job_check(const struct job_spec *spec, const struct config *config,
	struct snapshot_size *snapshot, struct error *err);
// Does the node's configuration allow it: host network, places of inputs and outputs, kinds of
// mounts? ERROR_DENIED.
int job_check_allowed(const struct job_spec *spec, const struct config *config, struct error *err);
struct snapshot_limits job_snapshot_limits(
	const struct job_spec *spec, const struct job_policy *policy, const char *state_dir);

struct job {
	const struct job_spec *spec;
	struct run *run;
	struct store *store;
	const struct oci_config *image;	   // of run->image
	const struct store_layers *layers; // of run->image; leased
	const struct data_ready *ready;	   // of spec->inputs; NULL: nothing was to be prepared
	const struct data_mounts *inputs;  // attached; NULL: they are as the specification has them
	int stdin_fd;			   // the script's; -1: /dev/null
	// For what serves the job from outside of its network: once that exists, a TCP socket that
	// listens on 127.0.0.1:listen_port inside is sent through this (message.h). -1: nothing
	// does.
	int listen_fd;
	uint16_t listen_port;
};

// Make the run's code/: a copy of the source directory, with the places of outputs/ and logs/.
// With further attempts to come it is kept beside them (the run's source/).
int job_snapshot(const struct job *job, const struct job_policy *policy, struct error *err);
// The same for a further attempt, from what was kept.
int job_snapshot_again(const struct job *job, struct error *err);
