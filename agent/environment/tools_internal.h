// SPDX-License-Identifier: Apache-2.0
//
// What was found in an image, beside what tools.h chooses from it.
#pragma once

#include "agent/environment/tools.h"

// Where the node's own programs are in a step.
#define TOOLS_FOLDER "/stoker/tools"

struct tools_program {
	const char *path, *version; // NULL: none
};

struct tools_found {
	const char *python, *python_version; // NULL: none
	const char *pip_version;	     // NULL: none
	const char *pip_runner; // a file of that pip's that runs it for another Python; NULL
	const char *index;	// the index that this pip asks by itself; NULL
	const char *glibc;
	bool has_venv, has_ensurepip;
	struct tools_program micromamba, mamba, conda, uv;
};

// From the file of this image's manifest, else by steps.
int tools_find(const struct environment_options *o, struct arena *a, struct tools_found *f,
	struct error *err);
// The version of one of its programs, asked for when it is needed the first time.
int tools_find_version(const struct environment_options *o, struct arena *a, struct tools_found *f,
	struct tools_program *p, struct error *err);

// PATH of a step: the image's, and where conda's tools use to be.
const char *tools_path(struct arena *a, const struct environment_options *o, struct error *err);

// A pip of the node's, as a wheel; NULL: it has none. "SOURCE:TARGET".
const char *tools_pip_wheel(struct arena *a);
