// SPDX-License-Identifier: Apache-2.0
//
// What the parts of a build share.
#pragma once

#include "agent/environment/environment.h"
#include "agent/environment/step.h"

// The run of a step: its experiment, and the document by which a sweep knows it.
#define STEP_EXPERIMENT "environment"
#define STEP_DOCUMENT	"step.json"

// Signals that end a build (environment_options.canceled): from now on they are held back and wait
// in the descriptor that is returned. -1 without an error: the caller does not want that.
int environment_signals_open(const struct environment_options *o, struct error *err);
// Has one come? Then its number is in *o->canceled, and the error says so.
bool environment_is_canceled(const struct environment_options *o, int signal_fd, struct error *err);

void environment_phase(const struct environment_options *o, const char *name, const char *detail);
void environment_notice(const struct environment_options *o, const char *text);

// Remove the runs of steps whose builder was killed.
void environment_steps_sweep(struct store *s);

// What a step prints, from its run's log: appended to the result (its end, if it is much), to the
// build's log, and given to the step line by line.
struct step_output {
	const struct step *step;
	struct buffer *output;
	int log_fd;	    // -1: none
	int fd;		    // of the run's log; -1: not there yet
	struct buffer line; // begun
};
// All that is there by now.
void step_output_read(struct step_output *o, int attempt_fd);
void step_output_finish(struct step_output *o, int attempt_fd); // and an unfinished line
