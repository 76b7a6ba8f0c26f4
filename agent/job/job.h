// SPDX-License-Identifier: Apache-2.0
//
// A job on this node, from its specification and the leased layers of its image to a script that
// runs. job_check() and job_snapshot() are called by the command that starts the job,
// job_start() by its supervisor.
#pragma once

#include "agent/job/run.h"
#include "agent/job/spec.h"
#include "oci/runtime/container.h"
#include "oci/runtime/rootfs.h"
#include "oci/store/store.h"

// What can be said before anything is pulled: are the source directory, the entry script and the
// inputs there and fit to be mounted? ERROR_NOT_FOUND, ERROR_INVALID, ERROR_DENIED.
int job_check(const struct job_spec *spec, struct error *err);

struct job {
	const struct job_spec *spec;
	struct run *run;
	struct store *store;
	const struct oci_config *image;	   // of run->image
	const struct store_layers *layers; // of run->image; leased
	int stdin_fd;			   // the script's; -1: /dev/null
};

// Make the run's code/: a copy of the source directory, with the places of outputs/ and logs/.
int job_snapshot(const struct job *job, struct error *err);

// What a running job consists of.
struct job_container {
	struct container container;
	struct rootfs_layers *layers;
	int output_fd; // what it prints: the reading end of a pipe, non-blocking
};

// Root file system and start. On failure *phase says how far it came, and nothing is left.
int job_start(
	const struct job *job, struct job_container *c, enum cause_phase *phase, struct error *err);
// Kill what runs, give up the mounts. Fine on a zeroed one.
void job_container_release(struct job_container *c);
