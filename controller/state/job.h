// SPDX-License-Identifier: Apache-2.0
//
// What the controller reads of a job: where it may run, and which environment it will want. All
// else is the node's to check, whose rules may be of another version.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"
#include "base/sha256.h"

#include <stdint.h>

enum {
	JOB_EXPERIMENT_SIZE = 101,
	JOB_IMAGE_MAX = 1000,
	JOB_CPUS_MAX = 100000,
	JOB_GPUS_MAX = 10000
};

struct job {
	const char *experiment; // "run" if not given
	const char *image;	// as the job names it; NULL: the node's default
	double cpus;		// 1 if not given
	uint64_t memory, gpus;	// 0: not given
	char hint[SHA256_HEX_SIZE];
};

// ERROR_INVALID or ERROR_LIMIT name the key. Strings point into the tree. The hint is a SHA-256
// over the image and what is said of packages, whatever the order of keys; of what stands in files
// over the snapshot's digest instead.
int job_read(struct arena *a, const struct json *document, const char *snapshot, struct job *job,
	struct error *err);
// One line of JSON, with the keys of objects in order: equal for equal documents.
const char *job_canonical(struct arena *a, const struct json *tree);
