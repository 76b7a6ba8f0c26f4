// SPDX-License-Identifier: Apache-2.0
//
// A job file made ready to be sent: its document as a controller wants it, and its source_directory
// as an archive.
#pragma once

#include "agent/job/spec.h"
#include "base/json_write.h"
#include "base/sha256.h"

struct submission {
	struct job_spec spec;
	struct arena arena;
	const struct json *document; // the job file
	int archive;		     // the snapshot, a file without a name; -1: none
	uint64_t archive_size;
	char sha256[SHA256_HEX_SIZE];
};

// Reads and checks what `stoker validate` can check without knowing the node, reads the secrets,
// and packs the folder.
int submission_prepare(struct submission *s, const char *path, struct error *err);
// The body of POST /v1/runs.
void submission_write(struct json_writer *w, const struct submission *s);
void submission_release(struct submission *s);
#define cleanup_submission __attribute__((cleanup(submission_release)))
