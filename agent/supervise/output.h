// SPDX-License-Identifier: Apache-2.0
//
// What a script prints: from the pipe to the journal, without the job's secrets.
//
// It is moved by a process of its own, the writer, and nobody else touches the pipe: who copies a
// file or a socket to it by sendfile(2) or splice(2) holds its lock while he waits for that, and
// read(2) then waits as well, where no signal reaches (docs/adr/0018). It ends when it is asked to,
// or when the supervisor is gone.
#pragma once

#include "agent/job/spec.h"
#include "agent/supervise/journal.h"
#include "base/loop.h"
#include "base/process.h"

struct output {
	struct process writer;	       // pid 0: there is none
	int news_fd;		       // its first failure comes here; -1
	struct journal_counts *counts; // shared with it; NULL
	struct loop_source *source;
	struct error error;	    // kind ERROR_NONE unless the log could not be written
	void (*failed)(void *data); // called once, when that happens
	void *data;
};

struct output_options {
	int dirfd; // the attempt's directory
	const struct job_spec *spec;
	uint64_t limit, keep_free; // as of struct journal_options
	// What the writer does for itself when it has begun; may be NULL.
	void (*settle)(void *data);
	void *data;
};

// Open the journal and start its writer. Takes the pipe's reading end, which is non-blocking.
int output_open(
	struct output *o, const struct output_options *options, int pipe_fd, struct error *err);
// Learn of failures.
int output_watch(struct output *o, struct loop *loop, struct error *err);
// All that is in the pipe, once all writers are gone; the log is complete then. Fails with what
// o->error holds, and does not wait for ever.
int output_drain(struct output *o, struct error *err);
struct journal_counts output_counts(const struct output *o);
// Is this its writer? Then its end is waited for here.
bool output_owns(const struct output *o, pid_t pid);
void output_close(struct output *o); // fine on a zeroed one

// In the writer (output_writer.c): move bytes until `news_fd` ends. Each failure, and first of all
// that the journal is open (ERROR_NONE), is a struct error sent there.
_Noreturn void output_write(
	const struct output_options *o, int pipe_fd, int news_fd, struct journal_counts *counts);
