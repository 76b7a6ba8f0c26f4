// SPDX-License-Identifier: Apache-2.0
#include "agent/command/command.h"
#include "agent/command/progress.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/runtime/rootfs.h"

#include <unistd.h>

enum { COMMON_OPTIONS = 3 };

int command_options(struct command *c, const struct option *options,
	const struct options_usage *usage, bool stop_at_positional, int argc, char **argv,
	char ***rest, int *rest_count, struct error *err)
{
	const struct option common[COMMON_OPTIONS + 1] = {
		{OPTION_STRING, 0, "config", "FILE",
			"the configuration, instead of /etc/stoker/agent.yaml",
			&c->overrides.config},
		{OPTION_STRING, 0, "state-dir", "DIR", "where images and runs are kept",
			&c->overrides.state_dir},
		{OPTION_STRING, 0, "run-dir", "DIR", "where mounts and locks are",
			&c->overrides.run_dir},
		{OPTION_END},
	};
	size_t count = 0;
	while (options && options[count].type != OPTION_END)
		count++;
	cleanup_free struct option *all = xcalloc(count + COMMON_OPTIONS + 1, sizeof(*all));
	if (count)
		memcpy(all, options, count * sizeof(*all));
	memcpy(all + count, common, sizeof(common));
	int rc = options_parse(all, usage, stop_at_positional, argc, argv, rest, rest_count, err);
	c->usage_error = rc < 0;
	return rc;
}

int command_open(struct command *c, struct error *err)
{
	if (config_load(&c->config, &c->overrides, err) < 0)
		return -1;
	c->store = store_open(c->config.state_dir, c->config.run_dir, &c->config.store_limits, err);
	if (!c->store)
		return -1;
	const char *backing = c->config.layer_backing;
	c->store->layer_backing = streq(backing, "file")   ? LAYER_BACKING_FILE
				  : streq(backing, "loop") ? LAYER_BACKING_LOOP
							   : LAYER_BACKING_AUTO;
	rootfs_sweep(c->store); // mounts of processes that were killed
	return 0;
}

const char *layer_format_name(enum layer_format format)
{
	return format == LAYER_EROFS ? "erofs" : "directory";
}

int command_layer_format(
	const struct command *c, const char *named, enum layer_format *format, struct error *err)
{
	enum config_layer_format wanted = c->config.layer_format;
	if (named) {
		if (streq(named, "erofs"))
			wanted = CONFIG_FORMAT_EROFS;
		else if (streq(named, "directory"))
			wanted = CONFIG_FORMAT_DIRECTORY;
		else if (streq(named, "auto"))
			wanted = CONFIG_FORMAT_AUTO;
		else
			return error_set(err, ERROR_INVALID,
				"--layer-format %s: must be auto, erofs or directory", named);
	}
	if (wanted == CONFIG_FORMAT_AUTO)
		wanted = geteuid() == 0 && rootfs_has_erofs() ? CONFIG_FORMAT_EROFS
							      : CONFIG_FORMAT_DIRECTORY;
	*format = wanted == CONFIG_FORMAT_EROFS ? LAYER_EROFS : LAYER_DIRECTORY;
	return 0;
}

int command_pull_image(struct command *c, const struct command_pull *o, struct pull_result *result,
	struct store_layers *layers, struct error *err)
{
	cleanup_progress struct progress progress = {0};
	const struct pull_events events = {.progress = progress_update, .notice = progress_notice};
	const struct pull_options options = {
		.reference = o->reference,
		.platform = o->platform,
		.format = o->format,
		.policy = o->policy,
		.registries = &c->config.registries,
		.limits = c->config.layer_limits,
		.events = o->quiet ? NULL : &events,
		.data = &progress,
		.canceled = o->canceled,
	};
	progress_init(&progress, o->reference);
	progress.bytes = o->progress;
	progress.data = o->data;
	return pull_image(c->store, &options, result, layers, err);
}

int command_read_token(const char *file, struct buffer *b, struct error *err)
{
	enum { TOKEN_BYTES_MAX = 4096 };
	int rc = file ? file_read(AT_FDCWD, file, TOKEN_BYTES_MAX, b, err)
		      : file_read_fd(STDIN_FILENO, "standard input", TOKEN_BYTES_MAX, b, err);
	if (rc < 0)
		return -1;
	size_t n = b->data ? strcspn(b->data, " \t\r\n") : 0;
	if (!n)
		return error_set(err, ERROR_INVALID, "there is no token in %s",
			file ? file : "standard input");
	b->data[n] = '\0';
	return 0;
}
