// SPDX-License-Identifier: Apache-2.0
//
// The verbs of the `stoker-controller` command line, one file each, and what they share.
#pragma once

#include "base/json_write.h"
#include "base/options.h"
#include "controller/command/settings.h"

struct command {
	struct settings_overrides overrides;
	struct settings settings;     // command_open()
	struct controller controller; // command_open()
	bool usage_error;	      // the error is about the command line: exit status 2
};

// Returns the exit status, or -1 with the error that main() prints.
typedef int command_fn(struct command *c, int argc, char **argv, struct error *err);
command_fn command_init, command_serve, command_token;

// options_parse() with what all have (--data, --database, --files) added to the verb's own.
int command_options(struct command *c, const struct option *options,
	const struct options_usage *usage, bool stop_at_positional, int argc, char **argv,
	char ***rest, int *rest_count, struct error *err);
// The settings, and the database. What was opened is closed by command_close().
int command_open(struct command *c, struct error *err);
void command_close(struct command *c);
// Are there any tokens: was `init` here?
int command_has_tokens(struct command *c, bool *has, struct error *err);
// One JSON document on standard output.
int command_print_json(struct json_writer *w, struct error *err);
