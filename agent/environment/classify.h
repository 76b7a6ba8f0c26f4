// SPDX-License-Identifier: Apache-2.0
//
// From what a tool printed to why it failed. Tools take servers that do not answer for packages
// that do not exist, so what the package proxy has seen is asked first (build.c).
#pragma once

#include "agent/environment/environment.h"
#include "base/arena.h"

struct classified {
	enum environment_failure failure;
	const char *text;	// one line; the arena's
	struct buffer evidence; // the lines that matter; the caller's
};

// `output` need not end in a NUL and may hold any bytes.
void classify_pip(struct arena *a, const char *output, size_t size, struct classified *c);
void classify_uv(struct arena *a, const char *output, size_t size, struct classified *c);
void classify_conda(struct arena *a, const char *output, size_t size, struct classified *c);
