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
	struct json_writer *json; // an array that is open: the files are named there, too; NULL
};
// Each file appears whole, by rename, and has the SHA-256 that the controller says. What is there
// already with the right size and hash is not fetched again, what an earlier call has left of a
// file (".NAME.part") is gone on with. Links are made only where they lead to
// inside of the target. Returns how many files, or -1.
int64_t download_files(struct service *s, const struct download *d, struct error *err);

// For --json: {"files": […], "folder": …}; NULL without it.
struct json_writer *download_json_begin(bool json);
// How many there are, and where: for people, or the document's end, printed.
int download_report(const struct download *d, int64_t files, struct error *err);
