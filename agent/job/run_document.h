// SPDX-License-Identifier: Apache-2.0
//
// run.json: writing it, and ending the one that a killed process left.
#pragma once

#include "agent/job/run.h"

int run_document_write(const struct run *r, struct error *err);
// Set the state to Failed, with a cause, unless it is an end already. `dirfd`: the attempt's
// directory. The cause follows from what the document says: node_restarted if it is of an earlier
// boot, or if a supervisor had the run and no longer has its folder in the run directory
// (has_folder), supervisor_lost if it still has one, Interrupted before there was a supervisor.
int run_document_interrupt(int dirfd, bool has_folder, struct error *err);

// What the other commands need of a run.json.
struct run_summary {
	const char *id, *experiment, *state;
	unsigned attempt;
	bool retried;				   // it has ended, and another attempt follows
	const char *image;			   // NULL if not known
	const char *created, *started, *ended;	   // as in the document; NULL: not yet
	const char *cause_class, *cause, *message; // NULL: no end yet
	int exit_status;			   // -1: no end yet
	const char *cgroup;			   // NULL: none
	int64_t client, client_start;
	int64_t supervisor, container; // process ids; 0: none
};
// The whole record, for who shows it; `b` holds its text. An empty object if there is none that can
// be read as one.
const struct json *run_document_tree(
	int dirfd, struct arena *a, struct buffer *b, struct error *err);
// cgroup_stats() as members of an object. What is not known is left out.
struct json_writer;
void run_document_write_stats(struct json_writer *w, const struct cgroup_stats *stats);
// Strings live in the arena. `dirfd`: the attempt's directory.
int run_document_read(int dirfd, struct arena *a, struct run_summary *s, struct error *err);
