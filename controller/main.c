// SPDX-License-Identifier: Apache-2.0
//
// The program: a table of verbs. Only here an error becomes text and an exit status: 0 done, 1 the
// operation failed, 2 the command line is wrong.
#include "base/text.h"
#include "controller/command/command.h"

#include <stdio.h>

static const struct {
	const char *name;
	command_fn *run;
	const char *help;
} commands[] = {
	{"init", command_init, "make the folder, the tables and the first tokens"},
	{"serve", command_serve, "run the controller"},
	{"token", command_token, "make, end and list tokens"},
};

static void print_help(void)
{
	printf("Usage: stoker-controller VERB …\n\n"
	       "Keeps runs, nodes, the queue and the files of runs, over HTTP.\n\nVerbs:\n");
	for (size_t i = 0; i < array_size(commands); i++)
		printf("  %-6s %s\n", commands[i].name, commands[i].help);
	printf("\n`stoker-controller VERB --help` shows a verb's options.\n");
}

static int run_command(struct command *c, int argc, char **argv, struct error *err)
{
	for (size_t i = 0; argc && i < array_size(commands); i++)
		if (streq(argv[0], commands[i].name))
			return commands[i].run(c, argc, argv, err);
	c->usage_error = true;
	if (!argc)
		return error_set(
			err, ERROR_INVALID, "a verb is missing; see: stoker-controller --help");
	return error_set(err, ERROR_INVALID,
		"there is no verb \"%s\"; see: stoker-controller --help", argv[0]);
}

static int finish(struct command *c, int rc, struct error *err)
{
	command_close(c);
	if (rc >= 0 && fflush(stdout) == 0)
		return rc;
	if (rc >= 0)
		error_set_errno(err, errno, "standard output");
	fprintf(stderr, "stoker-controller: %s\n", err->text);
	return c->usage_error ? 2 : 1;
}

int main(int argc, char **argv)
{
	struct command c = {0};
	struct error err = {0};
	bool version = false;
	const struct option options[] = {
		{OPTION_FLAG, 0, "version", NULL, "", &version},
		{OPTION_END},
	};
	const struct options_usage usage = {.program = "stoker-controller",
		.verb = "",
		.arguments = "VERB",
		.help = print_help,
		.most = -1};
	char **rest;
	int count;
	int rc = options_parse(options, &usage, true, argc, argv, &rest, &count, &err);
	c.usage_error = rc < 0;
	if (rc == OPTIONS_HELP)
		return 0;
	if (rc == OPTIONS_OK && version) {
		printf("stoker-controller %s\n", STOKER_VERSION);
		return 0;
	}
	if (rc == OPTIONS_OK)
		rc = run_command(&c, count, rest, &err);
	return finish(&c, rc, &err);
}
