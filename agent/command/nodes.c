// SPDX-License-Identifier: Apache-2.0
#include "agent/command/remote.h"

#include "base/text.h"
#include "base/time.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "nodes",
	.arguments = "",
	.summary =
		"List the controller's nodes: what they have, what of it is taken, and when they\n"
		"were last heard.",
};

static double real(const struct json *object, const char *key)
{
	const struct json *v = json_get(object, key);
	return v && v->type == JSON_NUMBER    ? v->number
	       : v && v->type == JSON_INTEGER ? (double)v->integer
					      : 0;
}

static void print_node(const struct json *n)
{
	const struct json *has = json_get(n, "resources"), *used = json_get(n, "used");
	const struct json *gpus = json_get(has, "gpus");
	char size[FORMAT_SIZE_MAX], taken[FORMAT_SIZE_MAX], seen[TIME_TEXT_SIZE];
	printf("%-24s  %-13s  %5.1f/%-5.1f  %10s/%-10s  %3lld/%-3zu  %.19sZ  %s\n",
		remote_text(n, "name"), remote_text(n, "state"), real(used, "cpus"),
		real(has, "cpus"),
		format_size((uint64_t)json_get_integer(used, "memory", 0), taken),
		format_size((uint64_t)json_get_integer(has, "memory", 0), size),
		(long long)json_get_integer(used, "gpus", 0),
		gpus && gpus->type == JSON_ARRAY ? gpus->count : 0,
		format_time(json_get_integer(n, "last_seen", 0), seen), remote_text(n, "id"));
}

int command_nodes(struct command *c, int argc, char **argv, struct error *err)
{
	bool json = false;
	const struct option options[] = {
		{OPTION_FLAG, 0, "json", NULL, "for programs", &json},
		{OPTION_END},
	};
	cleanup_arena struct arena a = {0};
	cleanup_service struct service *s = NULL;
	const struct json *answer;
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (remote_open(&s, err) < 0 ||
		service_call(s, "GET", "/v1/nodes", NULL, &a, &answer, err) < 0)
		return -1;
	if (json)
		return remote_print_json(answer, err);
	const struct json *list = json_get(answer, "nodes");
	if (!list || list->type != JSON_ARRAY)
		return error_set(err, ERROR_INVALID, "the controller's answer has no nodes");
	printf("%-24s  %-13s  %-11s  %-21s  %-7s  %-20s  %s\n", "NODE", "STATE", "CPUS", "MEMORY",
		"GPUS", "LAST SEEN", "ID");
	json_array_each (item, list)
		print_node(&item->value);
	return 0;
}
