// SPDX-License-Identifier: Apache-2.0
#include "agent/command/remote.h"

#include "base/text.h"
#include "base/time.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "runs",
	.arguments = "",
	.summary = "List the runs at the controller, the newest first.",
	.more = "Examples:\n"
		"  stoker runs --state Running\n"
		"  stoker runs --experiment digits --limit 10 --json | jq '.runs[].id'",
};

static void print_row(const struct json *run, int width)
{
	char created[TIME_TEXT_SIZE];
	cleanup_free char *message =
		xstrdup(json_get_string(json_get(run, "cause"), "message")
				? json_get_string(json_get(run, "cause"), "message")
				: "");
	text_flatten(message);
	printf("%-*s  %-15s  %.19sZ  %7lld  %-16s  %s\n", width, remote_text(run, "id"),
		remote_text(run, "state"),
		format_time(json_get_integer(run, "created", 0), created),
		(long long)json_get_integer(run, "attempt", 0), remote_text(run, "node"), message);
}

static void print_table(const struct json *list)
{
	int width = 3;
	json_array_each (item, list) {
		int n = (int)strlen(remote_text(&item->value, "id"));
		width = n > width ? n : width;
	}
	printf("%-*s  %-15s  %-20s  %7s  %-16s  %s\n", width, "RUN", "STATE", "CREATED", "ATTEMPT",
		"NODE", "CAUSE");
	json_array_each (item, list)
		print_row(&item->value, width);
}

int command_runs(struct command *c, int argc, char **argv, struct error *err)
{
	const char *experiment = NULL, *state = NULL;
	uint64_t limit = 50;
	bool json = false;
	const struct option options[] = {
		{OPTION_STRING, 'e', "experiment", "NAME", "only of this experiment", &experiment},
		{OPTION_STRING, 's', "state", "STATE", "only in this state", &state},
		{OPTION_NUMBER, 'n', "limit", "N", "at most so many (50)", &limit},
		{OPTION_FLAG, 0, "json", NULL, "for programs", &json},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	cleanup_arena struct arena a = {0};
	cleanup_service struct service *s = NULL;
	const struct json *page;
	if (remote_open(&s, err) < 0)
		return -1;
	const char *path = arena_printf(&a, "/v1/runs?limit=%llu%s%s%s%s",
		(unsigned long long)limit, experiment ? "&experiment=" : "",
		experiment ? service_escape(&a, experiment, false) : "", state ? "&state=" : "",
		state ? service_escape(&a, state, false) : "");
	if (service_call(s, "GET", path, NULL, &a, &page, err) < 0)
		return -1;
	if (json)
		return remote_print_json(page, err);
	const struct json *list = json_get(page, "runs");
	if (!list || list->type != JSON_ARRAY)
		return error_set(err, ERROR_INVALID, "the controller's answer has no runs");
	print_table(list);
	return 0;
}
