// SPDX-License-Identifier: Apache-2.0
//
// What a request line asks for: the target taken apart (RFC 3986), and patterns of routes compared
// with it. Pure, for its bytes come from anybody (tests/fuzz/fuzz_target.c).
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

enum { TARGET_MAX = 16 * 1024, PARAMETERS_MAX = 4 };

struct pair {
	const char *name, *value;
};

// Segments and values are decoded: UTF-8 without NUL. Segments are not empty and neither "." nor
// "..", also of those that a %2F made.
struct target {
	const char **segments;
	size_t segment_count;
	struct pair *query; // no name twice
	size_t query_count;
};
// In the arena. ERROR_INVALID; ERROR_LIMIT when it is over TARGET_MAX.
int target_parse(struct arena *a, const char *text, struct target *t, struct error *err);

struct parameters {
	struct pair items[PARAMETERS_MAX];
	size_t count;
};
// "{name}" takes one segment without a '/', "{name*}" all that remain, at least one.
bool route_match(
	struct arena *a, const char *pattern, const struct target *t, struct parameters *p);
