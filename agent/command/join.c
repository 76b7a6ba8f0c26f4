// SPDX-License-Identifier: Apache-2.0
#include "agent/command/command.h"
#include "agent/config/labels.h"
#include "agent/link/credential.h"
#include "base/file.h"
#include "base/text.h"

#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

static const struct options_usage usage = {
	.verb = "join",
	.arguments = "URL",
	.summary =
		"Make this machine a node of a controller. A join token is exchanged for the\n"
		"node's own credential, which is kept below the state directory for stoker agent.\n"
		"Without --token and --token-file the token is read from standard input.",
	.more = "Examples:\n"
		"  stoker join https://stoker.example.com < token\n"
		"  stoker join --token-file /run/secrets/join https://stoker.example.com",
	.least = 1,
	.most = 1,
};

static int join(struct command *c, struct join_request *q, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct credential made;
	struct utsname machine;
	if (!q->name && uname(&machine) == 0)
		q->name = arena_strdup(&a, machine.nodename);
	if (command_open(c, err) < 0 || credential_join(c->store->state_fd, q, &a, &made, err) < 0)
		return -1;
	printf("%s is node %s of %s; start it: stoker agent\n", made.name, made.node, made.url);
	return 0;
}

int command_join(struct command *c, int argc, char **argv, struct error *err)
{
	const char *token_file = NULL, *ca = NULL;
	struct join_request q = {0};
	cleanup_arena struct arena a = {0};
	cleanup_option_strings struct option_strings labels = {0};
	const struct option options[] = {
		{OPTION_STRING, 0, "token", "TOKEN", "a join token", &q.token},
		{OPTION_STRING, 0, "token-file", "FILE", "where it stands", &token_file},
		{OPTION_STRING, 0, "name", "NAME", "of the node; the host's if not given", &q.name},
		{OPTION_STRING, 0, "ca", "FILE", "certificates (PEM) to trust as well", &ca},
		{OPTION_STRINGS, 0, "label", "NAME=VALUE", "for the controller's users", &labels},
		{OPTION_FLAG, 0, "replace", NULL, "the node that has this name, if there is one",
			&q.replace},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (labels_parse(labels.items, labels.count, &a, &q.labels, err) < 0) {
		c->usage_error = true;
		return -1;
	}
	cleanup_buffer struct buffer read = {0};
	cleanup_free char *ca_path = ca ? path_absolute(ca, err) : NULL;
	if ((ca && !ca_path) || (!q.token && command_read_token(token_file, &read, err) < 0))
		return -1;
	q.url = rest[0];
	q.ca = ca_path;
	if (!q.token)
		q.token = read.data;
	return join(c, &q, err);
}
