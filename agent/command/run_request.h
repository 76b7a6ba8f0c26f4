// SPDX-License-Identifier: Apache-2.0
//
// The command line of `stoker run`: a job file, or a command with options.
#pragma once

#include "agent/command/command.h"
#include "agent/job/spec.h"

struct run_request {
	const char *image; // NULL: a job file was named
	const char *workdir, *user, *pull, *platform, *shm_size;
	const char *cpus, *memory, *pids, *gpus, *disk, *timeout, *network;
	struct option_strings variables, binds, devices;
	const char *id;	     // of the run; NULL: a new one
	const char *restore; // folder with the outputs/ to begin with; NULL: none
	bool detach, print_config;
	enum pull_policy policy;
	struct oci_reference reference; // chosen later, with the configuration
	struct oci_platform wanted;	// if `platform`
};

// Fills in the specification too. OPTIONS_OK, OPTIONS_HELP or -1. Strings point into argv.
int run_request_parse(struct command *c, struct run_request *q, int argc, char **argv,
	struct job_spec *s, struct error *err);
void run_request_release(struct run_request *q);
