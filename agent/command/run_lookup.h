// SPDX-License-Identifier: Apache-2.0
//
// Runs by name: the id, or as much of its beginning as is unique.
#pragma once

#include "agent/command/command.h"
#include "agent/job/run_document.h"

#include <limits.h>

struct run_found {
	char id[NAME_MAX + 1];
	unsigned attempt;
	int fd; // that attempt's directory
};

// ERROR_NOT_FOUND, or ERROR_INVALID with the runs that the name may mean.
int run_find(struct store *s, const char *name, struct run_found *found, struct error *err);
// Another attempt of the same run, 0: the last one. ERROR_NOT_FOUND says which there are.
int run_found_attempt(
	struct store *s, struct run_found *found, unsigned attempt, struct error *err);
void run_found_release(struct run_found *f); // fine on a zeroed one

// All runs, in the order of their names; an arena array. `active`: only those that somebody has.
int run_list(struct store *s, bool active, struct arena *a, const char ***ids, size_t *count,
	struct error *err);
bool run_is_active(struct store *s, const char *id);

// command_open(), and the ends of runs whose processes were killed are recorded.
int command_open_runs(struct command *c, struct error *err);

#define cleanup_run_found __attribute__((cleanup(run_found_release)))
