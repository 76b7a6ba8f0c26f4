// SPDX-License-Identifier: Apache-2.0
//
// Files from a controller onto this machine: of a run, or of a model.
#pragma once

#include "agent/command/remote.h"

struct download {
	const char *list;   // path of the list, "/v1/runs/R/files"; a file's is below it
	const char *prefix; // only what is there or below; NULL: all
	const char *strip;  // left out of the names here; NULL
	const char *target; // folder, made if it is not there
	bool quiet;
};
// Each file appears whole, by rename, and has the SHA-256 that the controller says. What is there
// already with the right size and hash is not fetched again. Links are made only where they lead to
// inside of the target. Returns how many files, or -1.
int64_t download_files(struct service *s, const struct download *d, struct error *err);
