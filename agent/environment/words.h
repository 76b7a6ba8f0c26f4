// SPDX-License-Identifier: Apache-2.0
//
// The words of a tool's command line, one after the other. Whoever makes the array (in an arena, so
// that a NULL stands behind the last word) makes it large enough.
#pragma once

#include "base/json_decode.h"

struct words {
	struct json_strings list;
};

static inline void words(struct words *w, const char *const *texts) // NULL-terminated
{
	while (*texts)
		w->list.items[w->list.count++] = *texts++;
}
