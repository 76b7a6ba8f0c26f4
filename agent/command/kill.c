// SPDX-License-Identifier: Apache-2.0
#include "agent/command/run_ask.h"
#include "agent/job/signal_name.h"

#include <signal.h>

static const struct options_usage usage = {
	.verb = "kill",
	.arguments = "RUN…",
	.summary = "Kill runs and all that they started, or send the script a signal.",
	.least = 1,
	.most = -1,
};

int command_kill(struct command *c, int argc, char **argv, struct error *err)
{
	const char *name = NULL;
	const struct option options[] = {
		{OPTION_STRING, 's', "signal", "SIGNAL",
			"this one instead of KILL: USR1, SIGINT, 2", &name},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	int signo = name ? signal_parse(name) : SIGKILL;
	if (signo < 0) {
		c->usage_error = true;
		return error_set(err, ERROR_INVALID, "--signal: there is no signal \"%s\"", name);
	}
	if (command_open_runs(c, err) < 0)
		return -1;
	const struct run_ask ask = {
		.what = signo == SIGKILL ? RUN_ASK_KILL : RUN_ASK_SIGNAL, .signo = signo};
	return run_ask_all(c->store, rest, count, &ask, err);
}
