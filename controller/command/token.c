// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"
#include "base/time.h"
#include "controller/command/command.h"
#include "controller/state/tokens.h"

#include <stdio.h>

static const struct options_usage usage = {
	.program = "stoker-controller",
	.verb = "token",
	.arguments = "create|revoke ID|list",
	.summary = "Make, end and list tokens, in the controller's tables: it may run meanwhile.\n"
		   "A new token is printed once; what is revoked is refused from then on.",
	.least = 1,
	.most = 2,
};

struct asked {
	const char *role, *user, *expires;
	bool json;
};

struct making {
	struct token_options options;
	char text[TOKEN_TEXT_SIZE];
};

static int make_write(struct database_tx *tx, void *data, struct error *err)
{
	struct making *m = data;
	return token_make(tx, &m->options, m->text, err);
}

static int check_create(const struct asked *asked, struct making *m, struct error *err)
{
	int64_t seconds = 0;
	if (!asked->role)
		return error_set(err, ERROR_INVALID, "--role is missing");
	if (asked->expires && (!parse_duration(asked->expires, &seconds) || seconds < 1))
		return error_set(
			err, ERROR_INVALID, "--expires: must be a time such as 30d or 12h");
	m->options.owner = asked->user;
	m->options.expires = seconds ? wall_ms() + seconds * 1000 : 0;
	return token_options_check(&m->options, asked->role, err);
}

static int create(
	struct command *c, const struct asked *asked, struct making *making, struct error *err)
{
	if (database_write(c->controller.db, make_write, making, err) < 0)
		return -1;
	if (!asked->json) {
		printf("%s\n", making->text);
		return 0;
	}
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	token_write(w, &making->options, making->text);
	return command_print_json(w, err);
}

static int revoke_write(struct database_tx *tx, void *data, struct error *err)
{
	return token_revoke(tx, data, err);
}

struct listing {
	struct arena arena;
	struct database_rows rows;
};

static int list_read(struct database_tx *tx, void *data, struct error *err)
{
	struct listing *l = data;
	return tokens_list(tx, &l->arena, &l->rows, err);
}

static void print_rows(const struct database_rows *rows)
{
	enum { ID, ROLE, OWNER, NODE, CREATED, EXPIRES, LAST_USED, REVOKED }; // tokens_list()
	printf("%-10s  %-6s  %-20s  %-24s  %s\n", "ID", "ROLE", "USER", "LAST USED", "STATE");
	for (size_t i = 0; i < rows->count; i++) {
		char time[TIME_TEXT_SIZE] = "never";
		int64_t used = database_get_integer(rows, i, LAST_USED, 0);
		if (used)
			format_time(used, time);
		const char *state = "";
		if (database_get_integer(rows, i, REVOKED, 0))
			state = "revoked";
		else if (database_get_integer(rows, i, EXPIRES, INT64_MAX) <= wall_ms())
			state = "expired";
		printf("%-10s  %-6s  %-20s  %-24s  %s\n", database_get_text(rows, i, ID),
			database_get_text(rows, i, ROLE), database_get_text(rows, i, OWNER), time,
			state);
	}
}

static int list(struct command *c, const struct asked *asked, struct error *err)
{
	struct listing l = {0};
	int rc = database_read(c->controller.db, list_read, &l, err);
	if (rc == 0 && asked->json) {
		cleanup_json_writer struct json_writer *w = json_writer_new(true);
		tokens_write(w, &l.rows);
		rc = command_print_json(w, err);
	} else if (rc == 0) {
		print_rows(&l.rows);
	}
	arena_release(&l.arena);
	return rc;
}

int command_token(struct command *c, int argc, char **argv, struct error *err)
{
	struct asked asked = {0};
	const struct option options[] = {
		{OPTION_STRING, 0, "role", "ROLE", "admin, user or join", &asked.role},
		{OPTION_STRING, 0, "user", "NAME", "whose runs the token submits and reads",
			&asked.user},
		{OPTION_STRING, 0, "expires", "TIME", "ends by itself after 30d, 12h …",
			&asked.expires},
		{OPTION_FLAG, 0, "json", NULL, "print JSON", &asked.json},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	struct making making = {0};
	c->usage_error = true;
	bool revoke = streq(rest[0], "revoke"), is_create = streq(rest[0], "create");
	if ((!revoke && !is_create && !streq(rest[0], "list")) || count != (revoke ? 2 : 1))
		return error_set(err, ERROR_INVALID, "must be one of: create, revoke ID, list");
	if (is_create && check_create(&asked, &making, err) < 0)
		return -1;
	c->usage_error = false;
	if (command_open(c, err) < 0)
		return -1;
	if (revoke)
		return database_write(c->controller.db, revoke_write, rest[1], err);
	return is_create ? create(c, &asked, &making, err) : list(c, &asked, err);
}
