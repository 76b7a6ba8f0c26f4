// SPDX-License-Identifier: Apache-2.0
// `stoker env export`.
#include "agent/command/env.h"
#include "agent/environment/share.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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

int env_export(struct command *c, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "env export",
		.arguments = "KEY",
		.summary = "Write the layer of an environment as a tar archive: it holds "
			   "opt/stoker/env and\nfits on top of the environment's image.",
		.least = 1,
		.most = 1,
	};
	const char *layer = NULL;
	const struct option options[] = {
		{OPTION_STRING, 0, "layer", "FILE", "where to", &layer},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	cleanup_arena struct arena a = {0};
	struct environment_record record;
	if (!layer) {
		c->usage_error = true;
		return error_set(err, ERROR_INVALID, "--layer FILE is missing");
	}
	if (env_find(c, rest[0], &a, &record, err) < 0)
		return -1;
	return export_layer(c, &record, layer, err);
}
