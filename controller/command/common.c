// SPDX-License-Identifier: Apache-2.0
#include "base/sha256.h"
#include "controller/command/command.h"

#include <stdio.h>

enum { OPTIONS_MAX = 24 };

static const struct option *with_common(
	struct command *c, const struct option *own, struct option all[OPTIONS_MAX])
{
	const struct option common[] = {
		{OPTION_STRING, 0, "data", "DIR",
			"the controller's folder (/var/lib/stoker-controller)", &c->overrides.data},
		{OPTION_STRING, 0, "database", "URL", "postgresql://… instead of a file in DIR",
			&c->overrides.database},
		{OPTION_STRING, 0, "files", "WHERE",
			"a folder, instead of DIR/files, or s3://BUCKET/PREFIX",
			&c->overrides.files},
		{OPTION_END},
	};
	size_t n = 0;
	for (; own && own->type != OPTION_END; own++)
		all[n++] = *own;
	for (size_t i = 0; i < array_size(common); i++)
		all[n++] = common[i];
	return all;
}

int command_options(struct command *c, const struct option *options,
	const struct options_usage *usage, bool stop_at_positional, int argc, char **argv,
	char ***rest, int *rest_count, struct error *err)
{
	struct option all[OPTIONS_MAX];
	int rc = options_parse(with_common(c, options, all), usage, stop_at_positional, argc, argv,
		rest, rest_count, err);
	if (rc < 0)
		c->usage_error = true;
	return rc;
}

int command_open(struct command *c, struct error *err)
{
	sha256_prepare();
	if (!c->settings.data && settings_load(&c->settings, &c->overrides, err) < 0)
		return -1;
	c->controller.limits = c->settings.limits;
	c->controller.db = database_open(c->settings.database, err);
	return c->controller.db ? 0 : -1;
}

void command_close(struct command *c)
{
	database_close(c->controller.db);
	settings_release(&c->settings);
}

static int count_tokens(struct database_tx *tx, void *data, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct database_rows rows;
	if (database_run(tx, &a, "SELECT id FROM token LIMIT 1", database_no_values, &rows, err) <
		0)
		return -1;
	*(bool *)data = rows.count > 0;
	return 0;
}

int command_has_tokens(struct command *c, bool *has, struct error *err)
{
	return database_read(c->controller.db, count_tokens, has, err);
}

int command_print_json(struct json_writer *w, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	if (json_writer_finish(w, &b, err) < 0)
		return -1;
	fwrite(b.data, 1, b.size, stdout);
	return 0;
}
