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
	bool has_conda; // a conda phase: tool is conda, mamba or micromamba
	// Normalised, sorted, each once. With pip packages, python and pip are among them;
	// azureml-defaults is not put in: nothing here needs it, and it would decide over versions.
	struct json_strings conda;
	// In order; the job's, else the node's; without credentials, so that new ones change no
	// key. Who fetches finds them in job->channels and job->index_url, or in the node's netrc.
	struct json_strings channels;
	const char *channel_priority; // "strict" if the job does not say
	const char *subdir;	      // conda's word for the platform: "linux-64"; NULL: none
	// CONDA_OVERRIDE_CUDA, _GLIBC, _LINUX, _ARCHSPEC, all four; "": absent. Pinned, so that one
	// request is solved alike on every node.
	struct json_pairs overrides;
	struct json_strings pip; // normalised, in order, each once; for a requirements file
	const char *index_url;	 // the job's, else the node's; NULL: pip's own; no credentials
	struct json_strings extra_index_urls;
	struct json_strings only_binary; // names normalised, sorted
	const struct job_environment *job;
	const struct environment_tool *tool;
	char key[ENVIRONMENT_KEY_SIZE];
	const char *document; // the canonical JSON
};

// ERROR_INVALID names the entry and what to write instead: editable and local requirements, options
// within lists, no channels for conda packages, credentials in a package's address, versions that
// are none, conda packages for a tool that has none, a Python that the image does not have.
// `image_manifest`: digest of the platform's manifest. `defaults`: the node's channels and index.
int environment_request_make(struct arena *a, const struct job_environment *job,
	const struct environment_tool *tool, const char *image_manifest,
	const struct oci_platform *platform, const struct environment_policy *defaults,
	struct environment_request *r, struct error *err);

// The folder of a channel that conda takes packages of a platform from; NULL: conda has none.
const char *environment_subdir(const struct oci_platform *platform);

// One conda spec ("NumPy >=1.20 , <2") and one line of requirements ("Scikit_Learn [x] ==1.0") in
// canonical form; NULL and the error for what is neither.
const char *environment_conda_spec(struct arena *a, const char *text, struct error *err);
const char *environment_pip_requirement(struct arena *a, const char *text, struct error *err);
// The name alone, normalised (PEP 503: lower case, '-').
const char *environment_pip_name(struct arena *a, const char *text);
