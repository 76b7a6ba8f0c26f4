// SPDX-License-Identifier: Apache-2.0
//
// pip's command lines, its environment and its files, as data.
#pragma once

#include "agent/environment/lock.h"
#include "agent/environment/request.h"

#define BUILD_TMP	   "/opt/stoker/tmp" // in a step; on the node: opt_path/tmp
#define PIP_REQUIREMENTS   "requirements.txt"
#define PIP_CONSTRAINTS	   "constraints.txt"
#define PIP_LINKS	   "links.html"
#define PIP_REPORT	   "report.json"
#define ENVIRONMENT_PYTHON ENVIRONMENT_PREFIX "/bin/python"
#define BUILD_EPOCH	   "315532800" // 1980: the oldest that a zip archive can say

struct pip_options {
	const char *pip;       // a file for the prefix's Python to run; NULL: its own module pip
	const char *version;   // of it; NULL: not known, and taken for an old one
	const char *index_url; // as the build sees it; NULL: pip's own
	struct json_strings extra_index_urls; // the same
	struct json_strings only_binary;
	bool pre, constraints;
	bool no_compile;   // to bytecode: that is done afterwards
	const char *as_of; // RFC 3339; NULL
};

// "23.0.1" against 22, 2. NULL is older than anything.
bool version_at_least(const char *version, unsigned major, unsigned minor);
bool pip_has_report(const char *version);
// Can it keep to what there was at a time (--uploaded-prior-to)?
bool pip_has_as_of(const char *version);

// The variables of each step: everything that it gets.
struct json_pairs pip_environment(struct arena *a, const char *path);
// Resolve and install what PIP_REQUIREMENTS lists; with a report where this pip can.
struct json_strings pip_install_command(struct arena *a, const struct pip_options *o);
// Install exactly what PIP_REQUIREMENTS lists with hashes, from the addresses of PIP_LINKS. Indexes
// are asked (for what builds need) only if not all packages are wheels.
struct json_strings pip_locked_command(
	struct arena *a, const struct pip_options *o, const struct environment_lock *lock);
struct json_strings pip_freeze_command(struct arena *a, const struct pip_options *o);

// Contents of the files. Addresses become those that the build sees.
void pip_requirements_write(struct arena *a, const struct json_strings *lines, struct buffer *out);
void pip_locked_write(struct arena *a, const struct environment_lock *lock,
	struct buffer *requirements, struct buffer *links);
