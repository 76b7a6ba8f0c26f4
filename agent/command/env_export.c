// SPDX-License-Identifier: Apache-2.0
// `stoker env export`.
#include "agent/command/env.h"
#include "agent/environment/share.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void on_notice(void *data, const char *text)
{
	(void)data;
	fprintf(stderr, "%s\n", text);
}

// Under a name of its own until it is whole.
static int export_layer(
	struct command *c, const struct environment_record *r, const char *path, struct error *err)
{
	cleanup_free char *name = xasprintf("%s.XXXXXX", path);
	cleanup_fd int fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "make %s", name);
	int rc = environment_export_layer(c->store, r->key, fd, err);
	if (rc == 0 && (fchmod(fd, 0644) < 0 || fsync(fd) < 0 || rename(name, path) < 0))
		rc = error_set_errno(err, errno, "write %s", path);
	if (rc < 0)
		unlink(name);
	return rc;
}

// The layers of the base are fetched from where it comes from: their compressed form is not kept.
static int export_layout(
	struct command *c, const struct environment_record *r, const char *path, struct error *err)
{
	static const struct push_events events = {.notice = on_notice};
	const struct environment_push_options o = {.store = c->store,
		.config = &c->config,
		.key = r->key,
		.layout = path,
		.events = &events};
	struct push_result result;
	return environment_push(&o, &result, err);
}

int env_export(struct command *c, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "env export",
		.arguments = "KEY",
		.summary = "Write the layer of an environment as a tar archive (it holds "
			   "opt/stoker/env and\nfits on top of the environment's image), or all of "
			   "its image as an OCI layout.",
		.least = 1,
		.most = 1,
	};
	const char *layer = NULL, *layout = NULL;
	const struct option options[] = {
		{OPTION_STRING, 0, "layer", "FILE", "the archive", &layer},
		{OPTION_STRING, 0, "oci", "DIR", "a folder, absent or empty, for the layout",
			&layout},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	cleanup_arena struct arena a = {0};
	struct environment_record record;
	if (!layer == !layout) {
		c->usage_error = true;
		return error_set(err, ERROR_INVALID, "expected one of --layer FILE and --oci DIR");
	}
	if (env_find(c, rest[0], &a, &record, err) < 0)
		return -1;
	return layer ? export_layer(c, &record, layer, err)
		     : export_layout(c, &record, layout, err);
}
