// SPDX-License-Identifier: Apache-2.0
//
// Nodes: who joined, what they say of themselves, and what an administrator wants of them.
#pragma once

#include "base/json_write.h"
#include "controller/state/identity.h"

enum { NODE_ID_SIZE = 17, NODE_NAME_SIZE = 129 };

// A name of its own; one that is taken is replaced only if asked, which ends the old credential and
// its attempts' leases. 1: it is taken.
int node_join(struct database_tx *tx, struct arena *a, const char *name, const char *version,
	bool replace, int64_t now, char id[NODE_ID_SIZE], char token[TOKEN_TEXT_SIZE],
	struct error *err);
int node_drain(struct database_tx *tx, struct arena *a, const char *id, bool drain,
	struct error *err); // ERROR_NOT_FOUND
// Its credential and its leases end; its runs go to others at the next housekeeping.
int node_remove(
	struct database_tx *tx, struct arena *a, const char *id, int64_t now, struct error *err);
// Members of an object; `id` NULL: all, as "nodes".
int node_write(struct database_tx *tx, struct arena *a, const char *id, int64_t now,
	const struct controller_limits *limits, struct json_writer *w, struct error *err);
