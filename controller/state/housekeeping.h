// SPDX-License-Identifier: Apache-2.0
//
// What nobody asks for: leases that have run out, runs that wait, blobs and snapshots that nothing
// needs.
#pragma once

#include "controller/state/controller.h"

// Once, before the first request: leases are not counted while no controller ran, so each gets its
// full time again. It does so itself after a time in which it could not be done: the database was
// away, the controller was stopped, the clock was set.
int housekeeping_begin(struct controller *c, int64_t now, struct error *err);
// Every second.
int housekeeping(struct controller *c, int64_t now, struct error *err);
