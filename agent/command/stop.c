// SPDX-License-Identifier: Apache-2.0
#include "agent/command/run_ask.h"
#include "agent/command/run_wait.h"
#include "base/text.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "stop",
	.arguments = "RUN…",
	.summary =
		"Ask runs to end, with the image's stop signal or SIGTERM; kill those that go on\n"
		"for longer than the grace period; return when nothing of them is left.",
	.least = 1,
	.most = -1,
};

int command_stop(struct command *c, int argc, char **argv, struct error *err)
{
	const char *time = NULL;
	const struct option options[] = {
		{OPTION_STRING, 't', "time", "SECONDS",
			"grace period, instead of stop_grace_seconds of agent.yaml", &time},
		{OPTION_END},
	};
	char **rest;
	int count;
	uint64_t seconds = 0;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (time && (!parse_u64(time, &seconds) || seconds > RUN_GRACE_SECONDS_MAX)) {
		c->usage_error = true;
		return error_set(err, ERROR_INVALID, "--time: expected seconds, %d at most",
			RUN_GRACE_SECONDS_MAX);
	}
	if (command_open_runs(c, err) < 0)
		return -1;
	return run_ask_all(c->store, rest, count,
		&(struct run_ask){
			.what = RUN_ASK_STOP, .grace_ms = time ? (int64_t)seconds * 1000 : -1},
		err);
}
