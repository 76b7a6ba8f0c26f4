// SPDX-License-Identifier: Apache-2.0
//
// What a job is: job.yaml (YAML or JSON) in the words of the Azure ML Estimator, or one command
// from the command line. Keys and their meaning: docs/job.md.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/json_decode.h"
#include "oci/runtime/container.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	JOB_BYTES_MAX = 1024 * 1024,		 // of job.yaml
	JOB_EXPERIMENT_MAX = 100,		 // characters
	JOB_ARGUMENTS_MAX = 4096,		 // of the script
	JOB_ARGUMENT_BYTES_MAX = 128 * 1024 - 1, // of one argument or variable; the kernel's limit
	JOB_VARIABLES_MAX = 1000,
	JOB_INPUTS_MAX = 100,
};

struct job_input {
	const char *name;   // [A-Za-z_][A-Za-z0-9_]*, unique, 64 characters at most
	const char *path;   // on the node; absolute once loaded
	const char *target; // in the container; /stoker/inputs/NAME if not given
	bool read_only;
};

struct job_bind {	    // of a command
	const char *source; // absolute path on the node; a folder or a file
	const char *target; // absolute path in the container; made where missing
	bool read_only;
};

struct job_spec {
	struct arena arena;
	const char *experiment;	      // "run" if not given
	const char *source_directory; // absolute once loaded; NULL for a command
	const char *entry_script;     // below source_directory; NULL for a command
	struct json_strings arguments;
	const char *image; // NULL: the configuration's default_image
	struct json_pairs variables;
	struct job_input *inputs;
	size_t input_count;
	uint64_t shm_size;	// 0: the default
	struct buffer document; // the text it was read from, empty for a command

	// For a command. These belong to the caller.
	const char *const *command;
	const char *working_directory, *user; // NULL: the image's
	const struct job_bind *binds;
	size_t bind_count;
};

// Parse a document; nothing outside it is looked at and relative paths stay relative. ERROR_INVALID
// with "name:line:column: key: …"; unknown keys are refused, those that a later version will know
// say so.
int job_spec_parse(
	struct job_spec *s, const char *data, size_t size, const char *name, struct error *err);
// Read and parse a file. Relative paths in it count from its folder.
int job_spec_load(struct job_spec *s, const char *path, struct error *err);
void job_spec_release(struct job_spec *s);

// Is this fit to begin a run id: letters, digits, '-', '_' and '.', a letter or digit first?
int job_experiment_check(const char *experiment, struct error *err);

#define cleanup_job_spec __attribute__((cleanup(job_spec_release)))
