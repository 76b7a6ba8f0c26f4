// SPDX-License-Identifier: Apache-2.0
//
// Whose node this is: <state>/node/credential.json, which only its owner may read. `stoker join`
// writes it, `stoker agent` lives by it.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/json_decode.h"

#include <stdbool.h>

struct credential {
	const char *url, *node, *name, *token; // the node's own
	const char *ca;			       // absolute path; NULL
	struct json_pairs labels;	       // that it was given when it joined
};

struct join_request {
	const char *url, *token, *name; // `token`: of the role join
	const char *ca;			// absolute path; NULL
	bool replace;			// a node of the same name, whose credential ends
	struct json_pairs labels;	// live as long as what is made
};

// Ask the controller for a credential and keep it; the one that was there is replaced once the
// new one is on the disk. What is filled in lives in the arena. ERROR_DENIED: the token is not good
// for it. ERROR_INVALID: the name is taken.
int credential_join(int state_fd, const struct join_request *q, struct arena *a,
	struct credential *c, struct error *err);
// Say good-bye for ever: the controller ends the credential, and what it had given to this node
// goes to others; then it is removed here. With `force` also where the controller does not answer.
int credential_leave(int state_fd, bool force, struct error *err);
// ERROR_NOT_FOUND says what to do; ERROR_DENIED: others can read it.
int credential_load(int state_fd, struct arena *a, struct credential *c, struct error *err);
