// SPDX-License-Identifier: Apache-2.0
//
// Which run goes to which node. Runs are taken by priority, then in the order of submission. A node
// must have room for what a run asks for, must have been heard within a lease, and must not be
// draining; of those, one that has the run's environment comes first, then one that has its image,
// then the one with the smallest share of its CPUs taken.
//
// A run that finds no room does not hold up those behind it, at first. Once it has waited for
// SCHEDULE_PATIENCE_MS, the node that could hold it and has the most room gets no other run until
// it fits. As many as SCHEDULE_PAGES_MAX pages of SCHEDULE_PAGE runs are looked at.
#pragma once

#include "controller/state/controller.h"

enum {
	SCHEDULE_PATIENCE_MS = 60 * 1000,
	SCHEDULE_PAGE = 500,
	SCHEDULE_PAGES_MAX = 40,
	SCHEDULE_RETURN_MS = 15 * 1000,
};

// Conditions of a node `n` in SQL: whether it has been heard since a time, takes runs, and has room
// for a share. Shares are sums of decimal fractions, which binary ones only come near.
#define SCHEDULE_HEARD(since) "n.away = 0 AND n.last_seen > " since
#define SCHEDULE_TAKES	      "n.drain = 0 AND n.draining = 0"
#define SCHEDULE_HAS_ROOM(cpus, memory, gpus)                                                 \
	"n.cpus - n.used_cpus >= " cpus " - 0.000001 AND n.memory - n.used_memory >= " memory \
	" AND n.gpus - n.used_gpus >= " gpus

// Hand out what can be handed out now: attempts in the state "assigned", whose nodes are told by
// hub topic "node/ID".
int schedule(struct database_tx *tx, struct arena *a, struct controller *c, int64_t now,
	struct error *err);
// The attempt's share of its node is free again, and it is over: state "ended" or "lost".
int schedule_release(struct database_tx *tx, struct arena *a, const char *run, int64_t attempt,
	const char *state, int64_t now, struct error *err);
// A node cannot hold what it was given, and has not begun with it: the run goes back to the queue,
// which is no loss, and does not come to that node again for SCHEDULE_RETURN_MS. 1: it has; 0: that
// was no such attempt (any more).
int schedule_return(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *run, int64_t attempt, const char *node, const char *reason, int64_t now,
	struct error *err);
