// SPDX-License-Identifier: Apache-2.0
//
// A job on this node, from its specification and the leased layers of its image to the script's
// end.
#pragma once

#include "agent/job/run.h"
#include "agent/job/spec.h"
#include "agent/job/watch.h"
#include "oci/store/store.h"

enum { JOB_GRACE_MS = 10 * 1000 }; // between asking a script to end and killing it

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
	int echo_fd;			   // where its output is echoed; -1: nowhere
};

// Snapshot, root file system, start, watch. On failure *phase says how far it came. run->image is
// set.
int job_execute(const struct job *job, struct watch_result *result, enum cause_phase *phase,
	struct error *err);
