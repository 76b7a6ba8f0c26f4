// SPDX-License-Identifier: Apache-2.0
#include "controller/command/command.h"
#include "controller/state/identity.h"

#include <stdio.h>

static const struct options_usage usage = {
	.program = "stoker-controller",
	.verb = "init",
	.arguments = "",
	.summary =
		"Make the controller's folder and tables, and the first two tokens: one for its\n"
		"administrator, one with which nodes join. They are printed once.",
};

struct first {
	char admin[TOKEN_TEXT_SIZE], join[TOKEN_TEXT_SIZE];
};

static int make_tokens(struct database_tx *tx, void *data, struct error *err)
{
	struct first *f = data;
	const struct token_options admin = {.role = ROLE_ADMIN, .owner = "admin"};
	const struct token_options join = {.role = ROLE_JOIN};
	return token_make(tx, &admin, f->admin, err) < 0 ? -1 : token_make(tx, &join, f->join, err);
}

static int print(const struct command *c, const struct first *f, bool json, struct error *err)
{
	if (!json) {
		printf("admin token: %s\njoin token:  %s\n", f->admin, f->join);
		fprintf(stderr,
			"They are not told again. Next: stoker-controller serve --data %s --listen "
			"127.0.0.1:8443\n",
			c->settings.data);
		return 0;
	}
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	json_write_open_object(w);
	json_write_member(w, "data", c->settings.data);
	json_write_member(w, "admin_token", f->admin);
	json_write_member(w, "join_token", f->join);
	json_write_close_object(w);
	return command_print_json(w, err);
}

int command_init(struct command *c, int argc, char **argv, struct error *err)
{
	bool json = false, has = false;
	const struct option options[] = {
		{OPTION_FLAG, 0, "json", NULL, "print JSON", &json},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	// The tokens come last: whatever ends this before can be begun again.
	if (settings_write(&c->overrides, err) < 0 || command_open(c, err) < 0 ||
		command_has_tokens(c, &has, err) < 0)
		return -1;
	if (has)
		return error_set(err, ERROR_INVALID,
			"%s is in use already; further tokens: stoker-controller token create",
			database_is_shared(c->controller.db) ? "the database" : c->settings.data);
	struct blobs *blobs = blobs_open(c->settings.files, c->controller.db, err);
	if (!blobs)
		return -1;
	blobs_close(blobs);
	struct first f;
	if (database_write(c->controller.db, make_tokens, &f, err) < 0)
		return -1;
	return print(c, &f, json, err);
}
