// SPDX-License-Identifier: Apache-2.0
//
// One rule of gitignore(5), compiled.
#pragma once

#include "base/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ignore_token;

struct ignore_pattern {
	bool negated;	  // "!": what it matches is in
	bool folder_only; // "…/"
	bool name_only;	  // no '/' but at the end: the last component is compared
	bool never;	  // malformed: matches nothing, as for git
	struct ignore_token *tokens;
	size_t count;
};

// A line without its line break. False: no rule (empty, a comment).
bool ignore_pattern_parse(struct arena *a, const char *line, size_t size, struct ignore_pattern *p);
// `path`: from the folder of the rule's file. `steps` counts.
bool ignore_pattern_match(
	const struct ignore_pattern *p, const char *path, bool is_folder, uint64_t *steps);
