// SPDX-License-Identifier: Apache-2.0
//
// What a job is: job.yaml (YAML or JSON) in the words of the Azure ML Estimator, or one command
// from the command line. Keys and their meaning: docs/job.md.
#pragma once

#include "agent/config/policy.h"
#include "agent/data/source.h"
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
	JOB_ARGUMENTS_BYTES_MAX = 2 * 1024 * 1024, // of all that refer to inputs
	JOB_VARIABLES_MAX = 1000,
	JOB_INPUTS_MAX = 100,
	JOB_DEVICES_MAX = 100,
	JOB_SECRETS_MAX = 100,
	JOB_SECRET_MIN = 4,		   // bytes; shorter ones could not be kept out of the log
	JOB_SECRETS_BYTES_MAX = 32 * 1024, // of all together
	JOB_SECONDS_MAX = 1000000000,
	JOB_RETRIES_MAX = 100,
	JOB_PACKAGES_MAX = 2000,	      // in each of the lists
	JOB_PACKAGES_BYTES_MAX = 1024 * 1024, // of a file with packages, and those it names
	JOB_LOCK_BYTES_MAX = 16 * 1024 * 1024,
	JOB_NAME_MAX = 255,	     // characters of display_name
	JOB_DESCRIPTION_MAX = 10000, // characters
	JOB_TAGS_MAX = 100,
	JOB_SNAPSHOT_BYTES = 300 * 1024 * 1024, // of source_directory, if the node does not say
	JOB_SNAPSHOT_FILES = 2000,
};

enum job_tool {
	JOB_TOOL_AUTO,
	JOB_TOOL_CONDA,
	JOB_TOOL_MAMBA,
	JOB_TOOL_MICROMAMBA,
	JOB_TOOL_VENV,
	JOB_TOOL_UV
};
enum job_reuse { JOB_REUSE, JOB_REUSE_REFRESH, JOB_REUSE_LOCKED };
enum job_activation { JOB_ACTIVATION_SNAPSHOT, JOB_ACTIVATION_SHELL, JOB_ACTIVATION_NONE };

// The packages a job asks for, and how (the keys conda_packages … and the group `environment`).
// Nothing asked: `given` is false and the image's own Python is used.
struct job_environment {
	bool given;
	bool user_managed;	      // excludes all packages
	struct json_strings conda;    // specs as written; from conda_packages or the conda file
	struct json_strings channels; // in order; from the conda file or environment.channels
	struct json_strings pip; // lines of requirements, in order; from pip_packages, the conda
				 // file's pip part or pip_requirements_file
	struct json_strings constraints;   // pip's: lines of the files that `-c` names
	const char *conda_file, *pip_file; // as given, relative to source_directory; NULL
	const char *channel_priority;	   // "strict" (default), "flexible", "disabled"
	const char *python;		   // "3.11"; NULL: what the solver or the image gives
	const char *index_url;		   // NULL: the node's
	struct json_strings extra_index_urls;
	struct json_strings only_binary; // pip's --only-binary; ":all:"
	bool pre;
	bool inherit_image_packages;
	const char *cuda;  // virtual package __cuda; NULL: absent
	const char *as_of; // RFC 3339; NULL
	enum job_tool tool;
	enum job_reuse reuse;
	uint64_t max_age;      // seconds after which a request is resolved anew; 0: never
	const char *lock_file; // JOB_REUSE_LOCKED; absolute once loaded
	struct buffer lock;    // its content
	enum job_activation activation;
	uint64_t max_seconds; // of the build; 0: the node's
};

struct job_bind {	    // of a command
	const char *source; // absolute path on the node; a folder or a file
	const char *target; // absolute path in the container; made where missing
	bool read_only;
};

// What a job may use. 0: the node's default, and where that says nothing, no limit.
struct job_resources {
	double cpus;
	uint64_t memory, memory_swap; // bytes; the second is the swap beside the memory
	uint64_t disk;		      // of all that the job writes, its log included
	uint64_t pids, gpus;
	struct json_strings devices; // names of CDI: "vendor.com/class=name"
};

// A value that is kept in memory only: it comes from a file or from the environment of `stoker
// run`, and reaches the script as the file /stoker/secrets/NAME and, if wanted, as a variable.
struct job_secret {
	const char *name;     // as of an input
	const char *file;     // absolute once loaded; NULL: from the environment
	const char *from;     // a variable of the environment; NULL: from the file
	const char *variable; // the script's; NULL: none
	const char *value;    // once read (job_secrets_read())
	size_t size;
};

struct job_spec {
	struct arena arena;
	const char *experiment;	      // "run" if not given
	const char *source_directory; // absolute once loaded; NULL for a command
	const char *entry_script;     // below source_directory; NULL for a command
	struct json_strings arguments;
	const char *image; // NULL: the configuration's default_image
	struct json_pairs variables;
	struct data_source *inputs;
	size_t input_count;
	uint64_t shm_size; // 0: the default
	struct job_resources resources;
	enum job_network network;
	uint64_t max_seconds; // 0: no limit
	uint64_t max_retries; // after the first attempt
	struct job_environment environment;
	const char *output_destination; // instead of the node's; absolute; NULL: the node's
	// Told by others than the script's author, for the record; shown by `stoker show`.
	const char *display_name, *description;
	struct json_pairs tags;
	struct json_pairs properties; // of the repository (git.h); not of the document
	uint64_t node_count, process_count_per_node; // 1 if not given
	struct job_secret *secrets;
	size_t secret_count;
	struct buffer document; // the text it was read from, empty for a command

	// For a command. These belong to the caller.
	const char *const *command;
	const char *working_directory, *user; // NULL: the image's
	const struct job_bind *binds;
	size_t bind_count;
	bool variables_alone; // it gets `variables` and nothing of the image's or the run's
};

// Parse a document; nothing outside it is looked at and relative paths stay relative. ERROR_INVALID
// with "name:line:column: key: …"; unknown keys are refused, those that a later version will know
// say so, and those of the Estimator that have another name here tell it.
int job_spec_parse(
	struct job_spec *s, const char *data, size_t size, const char *name, struct error *err);
// Read and parse a file. Relative paths in it count from its folder. The files with packages, below
// source_directory, and the lock are read, too.
int job_spec_load(struct job_spec *s, const char *path, struct error *err);
void job_spec_release(struct job_spec *s);
// Fill in the values of the secrets. ERROR_NOT_FOUND and others name the secret, never its value.
int job_secrets_read(struct job_spec *s, struct error *err);
// Is it of the form vendor/class=name?
bool job_device_check(const char *name);

// All keys of a job file and the words that some of them take, for programs: `object` is "" for the
// document itself, "resources", "environment", "secrets.*", "inputs[]", "inputs[].files[]".
struct job_keys {
	const char *object;
	const struct json_field *fields;
	const struct data_words *words; // may be NULL
};
extern const struct job_keys job_keys[]; // ended by a NULL object

// Is this fit to begin a run id: letters, digits, '-', '_' and '.', a letter or digit first?
int job_experiment_check(const char *experiment, struct error *err);

#define cleanup_job_spec __attribute__((cleanup(job_spec_release)))
