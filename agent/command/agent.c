// SPDX-License-Identifier: Apache-2.0
#include "agent/command/command.h"
#include "agent/config/labels.h"
#include "agent/link/link.h"

#include <unistd.h>

static const struct options_usage usage = {
	.verb = "agent",
	.arguments = "",
	.summary =
		"Serve the controller that this machine has joined: take jobs, run them as stoker\n"
		"run does, send what they print and leave, report. Ended or killed, it leaves its "
		"jobs alone;\n"
		"started again, it goes on with them.",
};

int command_agent(struct command *c, int argc, char **argv, struct error *err)
{
	const struct option options[] = {{OPTION_END}};
	cleanup_arena struct arena a = {0};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	// Its threads keep hold of it until the process ends.
	static struct link link;
	if (command_open(c, err) < 0 ||
		credential_load(c->store->state_fd, &a, &link.credential, err) < 0)
		return -1;
	link.store = c->store;
	link.settings = &c->config;
	link.labels = labels_merge(&a, &link.credential.labels, &c->config.labels);
	link.config = c->overrides.config;
	link.version = STOKER_VERSION;
	if (link_serve(&link, err) < 0)
		return -1;
	_exit(0); // at once: threads that follow attempts still use all of it
}
