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

static uint64_t bytes(const struct json *object, const char *key)
{
	int64_t n = json_get_integer(object, key, 0);
	return n > 0 ? (uint64_t)n : 0;
}

// Those that a job can get.
static size_t count_gpus(const struct json *resources)
{
	const struct json *gpus = json_get(resources, "gpus");
	size_t n = 0;
	if (!gpus || gpus->type != JSON_ARRAY)
		return 0;
	json_array_each (item, gpus)
		n += json_get_bool(&item->value, "ready", true);
	return n;
}

static void print_labels(const struct json *resources, const char *before)
{
	const struct json *labels = json_get(resources, "labels");
	if (!labels || labels->type != JSON_OBJECT || !labels->count)
		return;
	fputs(before, stdout);
	json_object_each (member, labels) {
		cleanup_free char *value = xstrdup(remote_text(labels, member->key));
		text_flatten(value);
		printf(" %s=%s", member->key, value);
	}
}

void remote_print_resources(const struct json *has)
{
	const struct json *used = json_get(has, "used");
	char size[FORMAT_SIZE_MAX], taken[FORMAT_SIZE_MAX];
	if (!has || has->type != JSON_OBJECT)
		return;
	printf("%-11s %g of %g taken\n", "CPUs", real(used, "cpus"), real(has, "cpus"));
	printf("%-11s %s of %s taken\n", "memory", format_size(bytes(used, "memory"), taken),
		format_size(bytes(has, "memory"), size));
	printf("%-11s %llu of %zu taken\n", "GPUs", (unsigned long long)bytes(used, "gpus"),
		count_gpus(has));
	printf("%-11s %s of %s free\n", "disk", format_size(bytes(has, "disk"), taken),
		format_size(bytes(has, "disk_total"), size));
	print_labels(has, "labels     ");
	const struct json *labels = json_get(has, "labels");
	if (labels && labels->type == JSON_OBJECT && labels->count)
		putchar('\n');
}

static void print_node(const struct json *n)
{
	const struct json *has = json_get(n, "resources"), *used = json_get(n, "used");
	char size[FORMAT_SIZE_MAX], taken[FORMAT_SIZE_MAX], disk[FORMAT_SIZE_MAX];
	char seen[TIME_TEXT_SIZE];
	printf("%-24s  %-13s  %4lld  %5.1f/%-5.1f  %10s/%-10s  %3lld/%-3zu  %10s  %.19sZ  %s",
		remote_text(n, "name"), remote_text(n, "state"),
		(long long)json_get_integer(n, "runs", 0), real(used, "cpus"), real(has, "cpus"),
		format_size(bytes(used, "memory"), taken), format_size(bytes(has, "memory"), size),
		(long long)json_get_integer(used, "gpus", 0), count_gpus(has),
		format_size(bytes(has, "disk"), disk),
		format_time(json_get_integer(n, "last_seen", 0), seen), remote_text(n, "id"));
	print_labels(has, " ");
	putchar('\n');
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
	printf("%-24s  %-13s  %4s  %-11s  %-21s  %-7s  %10s  %-20s  %-16s  %s\n", "NODE", "STATE",
		"RUNS", "CPUS", "MEMORY", "GPUS", "DISK FREE", "LAST SEEN", "ID", "LABELS");
	json_array_each (item, list)
		print_node(&item->value);
	return 0;
}
