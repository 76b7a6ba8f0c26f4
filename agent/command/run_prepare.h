// SPDX-License-Identifier: Apache-2.0
//
// What `stoker run` does before a job has a supervisor: image, environment, inputs, snapshot. A
// signal ends it. What failed for want of a network is tried again as max_retries allows.
#pragma once

#include "agent/command/run_request.h"
#include "agent/job/job.h"

struct run_prepare {
	struct command *command;
	const struct run_request *request;
	struct job *job;
	struct store_layers layers; // of the job's image: the one that it named, or the derived one
	struct arena arena;
	struct oci_config config; // of that image
	int canceled;		  // the signal that ended it
	struct cause cause; // of a failure; code NULL: it follows from the error and the phase
	enum cause_phase phase;
};

// From now on signals that end a program wait until run_prepare(), or whoever comes behind it,
// looks for them: none ends us where the run would stay without an end.
void run_prepare_hold_signals(void);
// `job` is filled in; it points into the structure.
int run_prepare(struct run_prepare *p, struct error *err);
void run_prepare_release(struct run_prepare *p);
