// SPDX-License-Identifier: Apache-2.0
//
// Tokens as administrators handle them, by the API and by the command line alike.
#pragma once

#include "base/json_write.h"
#include "controller/state/identity.h"

// One for a person or a cluster: roles admin, user (with a name) and join. Fills o->role, and
// o->owner where it has none.
int token_options_check(struct token_options *o, const char *role, struct error *err);
// All but those of runs, oldest first, revoked ones too; at most 10,000.
int tokens_list(
	struct database_tx *tx, struct arena *a, struct database_rows *rows, struct error *err);
void tokens_write(struct json_writer *w, const struct database_rows *rows); // an array
// {token, id, role, user, expires}: the answer to who had it made.
void token_write(struct json_writer *w, const struct token_options *o, const char *text);
