// SPDX-License-Identifier: Apache-2.0
#include "agent/command/run_ask.h"
#include "agent/command/run_remove.h"
#include "agent/command/run_wait.h"
#include "base/time.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "rm",
	.arguments = "[RUN…]",
	.summary = "Remove runs that have ended: their logs, their outputs, their records.",
	.more = "Examples:\n"
		"  stoker rm digits_1764000000_0a1b2c3d\n"
		"  stoker rm --older-than 30d",
	.least = 0,
	.most = -1,
};

static int remove_named(struct store *s, const char *name, bool force, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_run_found struct run_found run = {.fd = -1};
	struct run_summary end;
	const struct run_ask kill = {.what = RUN_ASK_KILL};
	if (run_find(s, name, &run, err) < 0)
		return -1;
	if (run_is_active(s, run.id)) {
		if (!force)
			return error_set(err, ERROR_INVALID,
				"run %s has not ended; stop it first, or use --force", run.id);
		if (run_ask(s, &run, &kill, err) < 0 || run_wait(s, &run, &a, &end, err) < 0)
			return -1;
	}
	if (run_remove(s, run.id, err) < 0)
		return -1;
	printf("%s\n", run.id);
	return 0;
}

int command_rm(struct command *c, int argc, char **argv, struct error *err)
{
	const char *age = NULL;
	bool force = false;
	const struct option options[] = {
		{OPTION_FLAG, 'f', "force", NULL, "kill those that run", &force},
		{OPTION_STRING, 0, "older-than", "TIME",
			"all that ended so long ago: 12h, 30d; runs go on", &age},
		{OPTION_END},
	};
	char **rest;
	int count;
	int64_t seconds = 0;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	c->usage_error = true;
	if (age && !parse_duration(age, &seconds))
		return error_set(
			err, ERROR_INVALID, "--older-than: expected a time such as 12h or 30d");
	if (!age == !count)
		return error_set(
			err, ERROR_INVALID, "either runs or --older-than; see: stoker rm --help");
	c->usage_error = false;
	if (command_open_runs(c, err) < 0)
		return -1;
	if (age) {
		const struct run_prune prune = {.keep_for_ms = seconds * 1000, .by_age = true};
		uint64_t removed = 0;
		if (runs_prune(c->store, &prune, &removed, err) < 0)
			return -1;
		fprintf(stderr, "removed %llu runs\n", (unsigned long long)removed);
		return 0;
	}
	for (int i = 0; i < count; i++)
		if (remove_named(c->store, rest[i], force, err) < 0)
			return -1;
	return 0;
}
