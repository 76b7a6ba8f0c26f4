// SPDX-License-Identifier: Apache-2.0
#include "agent/command/remote.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "cancel",
	.arguments = "RUN…",
	.summary =
		"Cancel runs at the controller. A script that runs is asked to end, and what it\n"
		"has left is kept. One that has ended already is no error.",
	.least = 1,
	.most = -1,
};

static int cancel(struct service *s, const char *name, bool json, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const struct json *run;
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_close_object(w);
	if (remote_find_run(s, name, &a, &run, err) < 0 ||
		service_call(s, "POST", remote_run_path(&a, run, "/cancel"), w, &a, &run, err) < 0)
		return -1;
	if (json)
		return remote_print_json(run, err);
	printf("%s: %s\n", remote_text(run, "id"), remote_text(run, "state"));
	return 0;
}

int command_cancel(struct command *c, int argc, char **argv, struct error *err)
{
	bool json = false;
	const struct option options[] = {
		{OPTION_FLAG, 0, "json", NULL, "for programs", &json},
		{OPTION_END},
	};
	cleanup_service struct service *s = NULL;
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (remote_open(&s, err) < 0)
		return -1;
	for (int i = 0; i < count; i++)
		if (cancel(s, rest[i], json, err) < 0)
			return -1;
	return 0;
}
