// SPDX-License-Identifier: Apache-2.0
//
// What finding the places of a layer's entries may cost in all. Entries, components of a path and
// symbolic links on the way multiply: without a total a few megabytes would keep a node busy for
// days. A step is one component; ordinary layers need fewer than ten for an entry.
#pragma once

#include "base/error.h"

#include <stdint.h>

enum { STEPS_FIRST = 10 * 1000 * 1000, STEPS_PER_ENTRY = 64 };

struct steps {
	uint64_t left;
};

// One more path is about to be walked.
static inline void steps_grant(struct steps *s)
{
	s->left += STEPS_PER_ENTRY;
}

// ERROR_LIMIT when there are none left.
static inline int steps_take(struct steps *s, uint64_t count, struct error *err)
{
	if (count > s->left)
		return error_set(err, ERROR_LIMIT,
			"the layer's paths are too long and lead through too many symbolic links, "
			"more than %d steps and %d for each entry",
			STEPS_FIRST, STEPS_PER_ENTRY);
	s->left -= count;
	return 0;
}
