// SPDX-License-Identifier: Apache-2.0
//
// The environment of a script: the image's variables, then those of the run under the names that
// Azure ML gives them and under STOKER_, then the inputs' paths, then the job's own. Later ones
// replace earlier.
#pragma once

#include "agent/job/run.h"
#include "agent/job/spec.h"
#include "oci/image/config.h"

// Where things are in the container.
extern const char job_folder[], job_outputs[], job_logs[], job_secrets[];

// NULL-terminated, in the arena. `hostname` becomes HOSTNAME.
const char **job_variables(struct arena *a, const struct oci_config *image,
	const struct job_spec *spec, const struct run *run, const char *hostname);

// Lead programs to the node's certificates (certificates.h), save by variables that are there.
void job_variables_certificates(struct arena *a, struct json_strings *env);
