// SPDX-License-Identifier: Apache-2.0
//
// Decoders of job.yaml's keys that spec.c, spec_arguments.c, spec_environment.c and
// spec_resources.c share.
#pragma once

#include "agent/job/spec.h"

json_decode_fn job_decode_size;			 // uint64_t: bytes, over 0
json_decode_fn job_decode_name;			 // const char *: letters, digits and '_'
json_decode_fn job_decode_nonempty;		 // const char *
json_decode_fn job_decode_below;		 // const char *: a path below source_directory
json_decode_fn job_decode_seconds;		 // uint64_t, over 0
json_decode_fn job_decode_resources;		 // struct job_resources
json_decode_fn job_decode_secrets;		 // struct job_spec
json_decode_fn job_decode_params;		 // struct job_spec, whose inputs are known
json_decode_fn job_decode_variables;		 // struct json_pairs; values as programs get them
json_decode_fn job_decode_tags;			 // struct json_pairs
json_decode_fn job_decode_environment;		 // struct job_environment
json_decode_fn job_decode_conda, job_decode_pip; // struct json_strings

// A whole number from `least` to `most`.
int job_decode_count(struct json_decoder *d, const struct json *value, uint64_t least,
	uint64_t most, uint64_t *target, struct error *err);

// What the parser's decoders share (json_decoder.context).
struct job_text {
	const char *data;
	size_t size;
	size_t expanded; // bytes of arguments that refer to inputs
};

extern const struct json_field job_resources_fields[], job_secret_fields[],
	job_environment_fields[];
extern const struct data_words job_environment_words[];

// Which keys about packages exclude each other; sets `given`. `document`: the whole one.
int job_environment_check(struct json_decoder *d, const struct json *document,
	struct job_environment *e, struct error *err);
// Read the files that it names: below `source_directory`, and the lock. Variables of a conda file
// are added to those of the job, unless that has them.
int job_environment_load(struct job_spec *s, struct error *err);
