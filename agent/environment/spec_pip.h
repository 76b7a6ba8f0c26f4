// SPDX-License-Identifier: Apache-2.0
//
// What spec_pip.c (a line of requirements) and spec_marker.c (its marker) share.
#pragma once

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"

struct pip_text {
	struct arena *arena;
	struct error *err;
	const char *text;   // as written, for errors
	const char *at;	    // what is not read yet
	struct buffer *out; // canonical form so far
};

// ERROR_INVALID with the requirement before the text; -1.
int pip_fail(struct pip_text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void pip_skip_space(struct pip_text *t);

// "; expression", up to the end or to " --hash".
int pip_marker(struct pip_text *t);
