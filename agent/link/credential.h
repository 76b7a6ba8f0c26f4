// SPDX-License-Identifier: Apache-2.0
//
// Whose node this is: <state>/node/credential.json, which only its owner may read. `stoker join`
// writes it, `stoker agent` lives by it.
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>

struct credential {
	const char *url, *node, *name, *token; // the node's own
	const char *ca;			       // absolute path; NULL
};

struct join_request {
	const char *url, *token, *name; // `token`: of the role join
	const char *ca;			// absolute path; NULL
	bool replace;			// a node of the same name, whose credential ends
};

// Ask the controller for a credential and keep it; the one that was there is replaced once the
// new one is on the disk. What is filled in lives in the arena. ERROR_DENIED: the token is not good
// for it. ERROR_INVALID: the name is taken.
int credential_join(int state_fd, const struct join_request *q, struct arena *a,
	struct credential *c, struct error *err);
// ERROR_NOT_FOUND says what to do; ERROR_DENIED: others can read it.
int credential_load(int state_fd, struct arena *a, struct credential *c, struct error *err);
