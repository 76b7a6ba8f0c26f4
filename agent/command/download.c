// SPDX-License-Identifier: Apache-2.0
#include "agent/command/download.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "download",
	.arguments = "RUN [PATH]",
	.summary =
		"Download a run's files from the controller: all of them, or what is at or below\n"
		"PATH (outputs, logs/tb, user_logs/std_log.txt). Files that are here already and\n"
		"are the same are not fetched again.",
	.more = "Examples:\n"
		"  stoker download digits_17 outputs\n"
		"  stoker download digits_17 user_logs -o /tmp/look",
	.least = 1,
	.most = 2,
};

int command_download(struct command *c, int argc, char **argv, struct error *err)
{
	const char *target = NULL;
	bool quiet = false, json = false;
	const struct option options[] = {
		{OPTION_STRING, 'o', "output", "DIR", "the folder to put them in (the run's id)",
			&target},
		{OPTION_FLAG, 'q', "quiet", NULL, "do not name the files", &quiet},
		{OPTION_FLAG, 0, "json", NULL, "print what is there then, for programs", &json},
		{OPTION_END},
	};
	cleanup_arena struct arena a = {0};
	cleanup_service struct service *s = NULL;
	const struct json *run;
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (remote_open(&s, err) < 0 || remote_find_run(s, rest[0], &a, &run, err) < 0)
		return -1;
	cleanup_json_writer struct json_writer *w = download_json_begin(json);
	const struct download d = {
		.list = remote_run_path(&a, run, "/files"),
		.prefix = count > 1 ? rest[1] : NULL,
		.target = target ? target : remote_text(run, "id"),
		.quiet = quiet,
		.json = w,
	};
	int64_t files = download_files(s, &d, err);
	if (files < 0)
		return -1;
	if (!files && d.prefix)
		return error_set(
			err, ERROR_NOT_FOUND, "run %s has no %s", remote_text(run, "id"), d.prefix);
	return download_report(&d, files, err);
}
