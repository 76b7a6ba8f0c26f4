// SPDX-License-Identifier: Apache-2.0
//
// `stoker env`: its verbs, a file for each group.
#pragma once

#include "agent/command/command.h"
#include "agent/environment/records.h"

command_fn env_ls, env_rm, env_show, env_lock, env_export, env_push, env_pull;

// Open the store and find an environment by the beginning of its key.
int env_find(struct command *c, const char *text, struct arena *a,
	struct environment_record *record, struct error *err);
// Is its image complete here?
bool env_is_here(struct command *c, const struct environment_record *record);
