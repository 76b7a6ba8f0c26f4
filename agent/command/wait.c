// SPDX-License-Identifier: Apache-2.0
#include "agent/command/run_wait.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "wait",
	.arguments = "RUN…",
	.summary =
		"Wait until runs have ended, and end with the exit status of the script: of the\n"
		"first one that is not 0, where there are several.",
	.least = 1,
	.most = -1,
};

static int wait_for(struct store *s, struct run_found *run, int *status, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct run_summary end;
	if (run_wait(s, run, &a, &end, err) < 0)
		return -1;
	fprintf(stderr, "%s: %s%s%s\n", run->id, end.state, end.message ? ": " : "",
		end.message ? end.message : "");
	*status = end.exit_status < 0 ? 1 : end.exit_status & 0xFF;
	return 0;
}

int command_wait(struct command *c, int argc, char **argv, struct error *err)
{
	char **rest;
	int count, result = 0;
	int rc = command_options(c, NULL, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (command_open_runs(c, err) < 0)
		return -1;
	for (int i = 0; i < count; i++) {
		int status;
		cleanup_run_found struct run_found run = {.fd = -1};
		if (run_find(c->store, rest[i], &run, err) < 0 ||
			wait_for(c->store, &run, &status, err) < 0)
			return -1;
		if (result == 0)
			result = status;
	}
	return result;
}
