// SPDX-License-Identifier: Apache-2.0
//
// WWW-Authenticate (RFC 9110, section 11): what a server that answers 401 wants to see. One header
// may hold several challenges, and a comma separates parameters as well as challenges.
#pragma once

#include "base/error.h"

#include <stddef.h>

enum {
	CHALLENGE_MAX = 8,	    // challenges in one answer
	CHALLENGE_BYTES_MAX = 8192, // of one header
	CHALLENGE_TEXT_MAX = 1024,  // of one parameter's value
};

enum challenge_scheme { CHALLENGE_OTHER, CHALLENGE_BASIC, CHALLENGE_BEARER };

// A value type. Parameters that were not given are "". Other parameters than these are skipped.
struct challenge {
	enum challenge_scheme scheme;
	char realm[CHALLENGE_TEXT_MAX], service[CHALLENGE_TEXT_MAX], scope[CHALLENGE_TEXT_MAX];
};

struct challenges {
	struct challenge items[CHALLENGE_MAX];
	size_t count;
};

// Add the challenges of one header's value. ERROR_INVALID: malformed (the text names the position),
// a parameter given twice; ERROR_LIMIT: more than the limits above. `list` is unchanged on failure.
int challenge_parse(const char *value, struct challenges *list, struct error *err);
// The first one of a scheme, or NULL.
const struct challenge *challenge_find(const struct challenges *list, enum challenge_scheme scheme);
