// SPDX-License-Identifier: Apache-2.0
//
// What a job asks of its environment, in canonical form: two requests that mean the same have the
// same key. The key R is the SHA-256 of "stoker/env-request/v1\n" and a canonical JSON document
// (sorted keys, UTF-8, integers only). In it: all that can change what is built. Not in it: names,
// credentials, caches, time limits, the node.
#pragma once

#include "agent/environment/environment.h"
#include "oci/image/config.h"

// What the image offers, found by looking into it once (tools.h); part of the key.
struct environment_tool {
	enum job_tool tool; // never JOB_TOOL_AUTO
	const char *path; // in the image, "/opt/conda/bin/conda"; of a lent one: where it is bound
	const char *version; // "23.3.1"
	const char *sha256;  // of a tool that the node lends (static micromamba, uv); NULL
	const char *python;  // the image's own interpreter, "/usr/local/bin/python3"; NULL: none
	const char *python_version; // "3.11.2"
	const char *pip_version;    // of that interpreter; NULL: it has none
	const char *glibc;	    // of the image, "2.36"; NULL: no glibc
};

struct environment_request {
	struct json_strings conda;    // normalised, sorted, each once
	struct json_strings channels; // in order, as given, without credentials
	struct json_strings pip;      // normalised, in order
	const struct job_environment *job;
	const struct environment_tool *tool;
	char key[ENVIRONMENT_KEY_SIZE];
	const char *document; // the canonical JSON
};

// ERROR_INVALID names the entry and what to write instead: editable and local requirements, options
// within lists, no channels for conda packages, credentials in URLs, versions that are none.
// `image_manifest`: digest of the platform's manifest. `defaults`: the node's channels and index.
int environment_request_make(struct arena *a, const struct job_environment *job,
	const struct environment_tool *tool, const char *image_manifest,
	const struct oci_platform *platform, const struct environment_policy *defaults,
	struct environment_request *r, struct error *err);

// One conda spec ("NumPy >=1.20 , <2") and one line of requirements ("Scikit_Learn [x] ==1.0") in
// canonical form; NULL and the error for what is neither.
const char *environment_conda_spec(struct arena *a, const char *text, struct error *err);
const char *environment_pip_requirement(struct arena *a, const char *text, struct error *err);
// The name alone, normalised (PEP 503: lower case, '-').
const char *environment_pip_name(struct arena *a, const char *text);
