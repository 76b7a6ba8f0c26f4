// SPDX-License-Identifier: Apache-2.0
//
// Who asks, and what of a run it may do: the one place where that is decided.
#pragma once

#include "controller/state/controller.h"

enum role {
	ROLE_ADMIN = 1 << 0,
	ROLE_USER = 1 << 1,
	ROLE_JOIN = 1 << 2,
	ROLE_NODE = 1 << 3,
	ROLE_RUN = 1 << 4,     // the writer of an attempt's files
	ROLE_METRICS = 1 << 5, // the job itself
	ROLE_NONE = 1 << 6,    // nobody: for routes that need no token
};
const char *role_name(enum role role);		  // "admin", …
int role_find(const char *name, enum role *role); // -1: there is none
enum { TOKEN_TEXT_SIZE = 64, TOKEN_ID_SIZE = 11 };

struct identity {
	enum role role;
	char token[TOKEN_ID_SIZE];
	char owner[129]; // of role user and admin; of a run: its owner
	char node[65];	 // role node
	char run[161];	 // roles run and metrics
	int64_t attempt;
};

// The token's holder; ERROR_DENIED when it is none, has expired, was revoked, or its run's attempt
// is no longer the last one and open (then kind ERROR_DENIED with the text "stale").
int identity_find(struct controller *c, const char *token, struct identity *who, struct error *err);

// Make one. `expires` 0: never. The text is told once and not kept.
struct token_options {
	enum role role;
	const char *owner, *node, *run; // NULL where it has none
	int64_t attempt, expires;
};
int token_make(struct database_tx *tx, const struct token_options *o, char text[TOKEN_TEXT_SIZE],
	struct error *err);
int token_revoke(struct database_tx *tx, const char *id, struct error *err); // ERROR_NOT_FOUND

enum access {
	ACCESS_READ,   // see it and its files
	ACCESS_MANAGE, // cancel, remove
	ACCESS_WRITE,  // its files, as the attempt that is open
	ACCESS_METRICS,
	ACCESS_SNAPSHOT, // fetch what it runs: its node and its readers
};
// May it? ERROR_NOT_FOUND when there is no such run or it is none of theirs; ERROR_DENIED with
// "stale" for the token of an attempt that is over (the API answers 409). In the transaction that
// does the work, so that nothing comes between.
int access_run(struct database_tx *tx, struct arena *a, const struct identity *who, const char *run,
	enum access access, struct error *err);
