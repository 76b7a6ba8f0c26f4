// SPDX-License-Identifier: Apache-2.0
#include "agent/command/env.h"

#include "base/text.h"

#include <stdio.h>

static const struct {
	const char *name;
	command_fn *run;
	const char *help;
} verbs[] = {
	{"ls", env_ls, "list the environments here"},
	{"show", env_show, "show one: its image, packages, variables and requests"},
	{"lock", env_lock, "print its lock, from which it can be built again"},
	{"rm", env_rm, "remove environments"},
	{"export", env_export, "write its layer as a tar archive, or its image as an OCI layout"},
	{"push", env_push, "send it to a registry"},
	{"pull", env_pull, "fetch one from a registry"},
};

static void print_help(void)
{
	printf("Usage: stoker env VERB …\n\n"
	       "Environments: images with the packages that jobs asked for.\n\nVerbs:\n");
	for (size_t i = 0; i < array_size(verbs); i++)
		printf("  %-10s %s\n", verbs[i].name, verbs[i].help);
	printf("\n`stoker env VERB --help` shows a verb's options. An environment is named by its "
	       "key,\nor by as many of its first digits as are unique.\n");
}

int command_env(struct command *c, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "env", .arguments = "VERB", .help = print_help, .most = -1};
	char **rest;
	int count;
	int rc = command_options(c, NULL, &usage, true, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	c->usage_error = true;
	if (count < 1)
		return error_set(err, ERROR_INVALID, "a verb is missing; see: stoker env --help");
	for (size_t i = 0; i < array_size(verbs); i++) {
		if (!streq(rest[0], verbs[i].name))
			continue;
		c->usage_error = false;
		return verbs[i].run(c, count, rest, err);
	}
	return error_set(
		err, ERROR_INVALID, "env has no verb \"%.80s\"; see: stoker env --help", rest[0]);
}

int env_find(struct command *c, const char *text, struct arena *a,
	struct environment_record *record, struct error *err)
{
	char key[ENVIRONMENT_KEY_SIZE];
	if (command_open(c, err) < 0 || environment_record_resolve(c->store, text, key, err) < 0)
		return -1;
	return environment_record_read(c->store, a, key, record, err);
}

bool env_is_here(struct command *c, const struct environment_record *record)
{
	struct oci_reference name;
	struct store_image image;
	cleanup_store_layers struct store_layers layers = {0};
	struct error ignored;
	return oci_reference_parse(record->reference, &name, &ignored) == 0 &&
	       store_image_get(c->store, &name, &image, &ignored) == 0 &&
	       store_image_lease(c->store, &image, &layers, &ignored) == 0;
}
