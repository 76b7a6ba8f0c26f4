// SPDX-License-Identifier: Apache-2.0
//
// The table of objects that are nobody's: noted before they are written, so that none is left
// behind whoever is killed when; pieces_put() makes one somebody's.
#pragma once

#include "controller/database/database.h"

// One that is about to be written; without pieces_put() of it within hours it is removed.
int stray_add(struct database *db, const char *object, const char *upload, struct error *err);
// It will not be needed.
int stray_doom(struct database *db, const char *object, struct error *err);

struct stray {
	const char *object, *upload; // upload NULL: none
};
// Those whose time is over, at most `max`. Nobody else will take one up again.
int stray_due(struct database *db, struct arena *a, size_t max, struct stray **strays,
	size_t *count, struct error *err);
int stray_forget(struct database *db, const struct stray *strays, size_t count, struct error *err);
