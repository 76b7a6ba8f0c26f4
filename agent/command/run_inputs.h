// SPDX-License-Identifier: Apache-2.0
//
// A job's inputs before it has a supervisor: fetched, with progress.
#pragma once

#include "agent/command/run_prepare.h"

// Sets job->ready, or on failure p->cause. Nothing is done, and no phase begun, where nothing has
// to be brought.
int run_inputs(struct run_prepare *p, struct error *err);
// What else the supervisor does: the inputs are attached, for who only wants to look (*inputs: NULL
// where there are none), and let go of.
int run_inputs_attach(
	struct command *c, const struct job *job, struct data_mounts **inputs, struct error *err);
void run_inputs_detach(struct command *c, const struct job *job, struct data_mounts *inputs);
