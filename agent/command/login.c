// SPDX-License-Identifier: Apache-2.0
#include "agent/command/remote.h"

#include "base/file.h"
#include "base/text.h"

#include <stdio.h>
#include <unistd.h>

static const struct options_usage usage = {
	.verb = "login",
	.arguments = "URL",
	.summary =
		"Remember a controller and a token for it: submit, runs, logs and the others ask\n"
		"it from then on. The token is checked, and kept in a file that only you can\n"
		"read. Without --token it is read from standard input.",
	.more = "Examples:\n"
		"  stoker login https://stoker.example.com < token\n"
		"  stoker login --token stk_u_… http://127.0.0.1:8443",
	.least = 1,
	.most = 1,
};

int command_login(struct command *c, int argc, char **argv, struct error *err)
{
	const char *token = NULL, *ca = NULL;
	bool json = false;
	const struct option options[] = {
		{OPTION_STRING, 0, "token", "TOKEN", "of a user or administrator", &token},
		{OPTION_STRING, 0, "ca", "FILE", "certificates (PEM) to trust as well", &ca},
		{OPTION_FLAG, 0, "json", NULL, "print who you are there, for programs", &json},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	cleanup_buffer struct buffer typed = {0};
	cleanup_arena struct arena a = {0};
	cleanup_free char *ca_path = ca ? path_absolute(ca, err) : NULL;
	if (!token && isatty(STDIN_FILENO))
		fprintf(stderr, "token: ");
	if ((ca && !ca_path) || (!token && command_read_token(NULL, &typed, err) < 0))
		return -1;
	const struct service_settings settings = {.url = rest[0],
		.token = token ? token : typed.data,
		.ca = ca_path,
		.cancel_fd = -1};
	cleanup_service struct service *s = service_open(&settings, err);
	const struct json *answer;
	if (!s || service_call(s, "GET", "/v1/", NULL, &a, &answer, err) < 0 ||
		remote_save(rest[0], settings.token, ca_path, err) < 0)
		return -1;
	if (json)
		return remote_print_json(answer, err);
	printf("%s: %s, role %s\n", rest[0], remote_text(answer, "user"),
		remote_text(answer, "role"));
	return 0;
}
