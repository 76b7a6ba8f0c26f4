// SPDX-License-Identifier: Apache-2.0
//
// The tables. A migration that was released is never edited; a change is one more at the end.
#pragma once

#include <stddef.h>

struct migration {
	int version;
	const char *const *statements; // to NULL
};
extern const struct migration migrations[];
extern const size_t migration_count;
