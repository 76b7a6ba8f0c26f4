// SPDX-License-Identifier: Apache-2.0
//
// The command lines and variables of conda, mamba and micromamba, and what they print, as data.
#pragma once

#include "agent/environment/lock.h"
#include "agent/environment/request.h"
#include "agent/environment/step.h"
#include "base/json.h"

#define CONDA_EXPLICIT "explicit.txt"
#define CONDA_RC       "condarc"

struct conda_options {
	enum job_tool tool;
	const char *path, *version;
	struct json_strings channels; // as the build sees them
	struct json_strings specs;
	const char *channel_priority;
	struct json_pairs overrides;
	const char *subdir;
	bool accept_terms;
};

// What is not of pip_environment().
struct json_pairs conda_environment(
	struct arena *a, const struct json_pairs *base, const struct conda_options *o);
// Solve and say what would be installed, as JSON.
struct json_strings conda_solve_command(struct arena *a, const struct conda_options *o);
// Install what CONDA_EXPLICIT lists; without a solver.
struct json_strings conda_explicit_command(struct arena *a, const struct conda_options *o);
// Both in one, for versions whose solution does not tell addresses.
struct json_strings conda_create_command(struct arena *a, const struct conda_options *o);
// The address that channels without one are below: asked of the tool.
struct json_strings conda_alias_command(struct arena *a, const struct conda_options *o);
const char *conda_alias_parse(struct arena *a, const char *output, size_t size);

// The last document in an output that mixes text, records ended by NUL, and documents. NULL: there
// is none.
const struct json *conda_document(struct arena *a, const char *output, size_t size);

struct conda_solution {
	struct lock_package *packages; // url, and sha256, md5, size where they are told
	size_t count;
	uint64_t bytes; // to be downloaded
};
// false: it does not tell each address (conda before 4.4).
bool conda_solution_read(
	struct arena *a, const struct json *document, struct conda_solution *solution);
// "@EXPLICIT", with the addresses as the build sees them.
void conda_explicit_write(
	struct arena *a, const struct lock_package *packages, size_t count, struct buffer *out);
