// SPDX-License-Identifier: Apache-2.0
#include "agent/command/command.h"
#include "agent/link/credential.h"
#include "agent/link/link.h"
#include "base/file.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "leave",
	.arguments = "",
	.summary = "Undo stoker join: the controller gives the node's runs to others, and the\n"
		   "credential ends and is removed. The agent must have ended; to let its runs "
		   "finish\n"
		   "first: stoker node drain.",
};

int command_leave(struct command *c, int argc, char **argv, struct error *err)
{
	bool force = false;
	const struct option options[] = {
		{OPTION_FLAG, 0, "force", NULL,
			"also when there are runs, or the controller does not answer", &force},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (command_open(c, err) < 0)
		return -1;
	cleanup_fd int lock = link_lock(c->store, err);
	if (lock < 0)
		return -1;
	unsigned held = link_attempts_held(c->store);
	if (held && !force)
		return error_set(err, ERROR_UNAVAILABLE,
			"%u runs of the controller are on this node; let them finish by stoker "
			"node drain, or leave them behind by --force",
			held);
	if (credential_leave(c->store->state_fd, force, err) < 0)
		return -1;
	return printf("this node belongs to no controller any more\n") < 0;
}
