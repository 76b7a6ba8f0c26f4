// SPDX-License-Identifier: Apache-2.0
//
// Files that say which packages a job needs: an environment.yml of conda's and a requirements.txt
// of pip's. Only what both a person and a node can answer for: files below one folder, no paths of
// the node, no credentials, no commands.
#pragma once

#include "agent/job/spec.h"

// What is wrong with one entry, with what to write instead; NULL: nothing. Syntax is for the tools;
// here is what would reach beyond a package's name: options, paths, credentials.
const char *packages_conda_complaint(const char *spec);
const char *packages_pip_complaint(const char *requirement);
const char *packages_channel_complaint(const char *channel);

// Append what the file `path` (below the folder) says to the lists of `e`. Files that it names
// (`-r`, `-c`) are read too, below the same folder, JOB_PACKAGES_BYTES_MAX in all. What it says of
// indexes must not contradict `e`. Texts live in the arena. ERROR_INVALID "NAME:LINE: …",
// ERROR_NOT_FOUND, ERROR_LIMIT.
int packages_read_pip(struct arena *a, int folder, const char *path, struct job_environment *e,
	struct error *err);
// As above for environment.yml: channels, dependencies with the list `pip:`; `variables` (conda
// sets them at activation) are handed out; `name` and `prefix` say nothing here.
int packages_read_conda(struct arena *a, int folder, const char *path, struct job_environment *e,
	struct json_pairs *variables, struct error *err);
