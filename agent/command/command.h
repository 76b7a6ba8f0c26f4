// SPDX-License-Identifier: Apache-2.0
//
// The verbs of the `stoker` command line, one file each, and what they share.
#pragma once

#include "agent/config/config.h"
#include "base/options.h"
#include "oci/store/pull.h"

// What every verb gets. main() owns it.
struct command {
	struct config_overrides overrides; // from options before or behind the verb
	bool usage_error;		   // the error is about the command line: exit status 2
	struct config config;		   // command_open()
	struct store *store;		   // command_open()
};

// Returns the exit status, or -1 with the error that main() prints.
typedef int command_fn(struct command *c, int argc, char **argv, struct error *err);

command_fn command_pull, command_images, command_inspect, command_rmi, command_prune, command_image,
	command_run, command_ps, command_wait, command_stop, command_kill, command_rm,
	command_devices, command_runtime, command_stats, command_logs, command_exec, command_show,
	command_outputs, command_validate, command_env, command_login, command_submit, command_runs,
	command_cancel, command_download, command_nodes, command_models, command_join,
	command_agent, command_leave, command_node;

// options_parse() with the options that every verb has (--config, --state-dir, --run-dir) added to
// the verb's own; marks usage errors.
int command_options(struct command *c, const struct option *options,
	const struct options_usage *usage, bool stop_at_positional, int argc, char **argv,
	char ***rest, int *rest_count, struct error *err);

// A token: the first word of a file, or (NULL) of standard input.
int command_read_token(const char *file, struct buffer *b, struct error *err);

// Load the configuration and open the store.
int command_open(struct command *c, struct error *err);

// The layer form to use: what `named` says ("erofs", "directory", or NULL for the configuration),
// where "auto" is EROFS if this kernel can mount it and we are root.
int command_layer_format(
	const struct command *c, const char *named, enum layer_format *format, struct error *err);
const char *layer_format_name(enum layer_format format);

// Pull with progress on stderr (or none if `quiet`). Arguments as pull_image().
struct command_pull {
	const struct oci_reference *reference;
	const struct oci_platform *platform; // NULL: this machine's
	enum layer_format format;
	enum pull_policy policy;
	bool quiet;
	int *canceled;
	// Compressed bytes that are here, of all; NULL.
	void (*progress)(void *data, uint64_t done, uint64_t total);
	void *data;
};
int command_pull_image(struct command *c, const struct command_pull *o, struct pull_result *result,
	struct store_layers *layers, struct error *err);
