// SPDX-License-Identifier: Apache-2.0
//
// What a script prints: from the pipe to the journal, without the job's secrets.
#pragma once

#include "agent/job/spec.h"
#include "agent/supervise/journal.h"
#include "base/loop.h"

struct output {
	int pipe_fd; // where the script's bytes come from, non-blocking; -1 at their end
	struct redact *redact;
	struct journal *journal;
	struct loop_source *source;
	struct error error;	    // kind ERROR_NONE unless the log could not be written
	void (*failed)(void *data); // called once, when that happens
	void *data;
};

struct output_options {
	int dirfd; // the attempt's directory
	const struct job_spec *spec;
	uint64_t limit, keep_free; // as of struct journal_options
};

// Open the journal. Takes the pipe.
int output_open(
	struct output *o, const struct output_options *options, int pipe_fd, struct error *err);
// Move bytes whenever there are some.
int output_watch(struct output *o, struct loop *loop, struct error *err);
// All that is in the pipe, once all writers are gone; the log is complete then. Fails with what
// o->error holds.
int output_drain(struct output *o, struct error *err);
struct journal_counts output_counts(const struct output *o);
void output_close(struct output *o); // fine on a zeroed one
