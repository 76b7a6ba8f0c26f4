// SPDX-License-Identifier: Apache-2.0
#include "agent/command/command.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "prune",
	.arguments = "",
	.summary =
		"Remove layers that no image needs, broken-off downloads and, with --all, images.\n"
		"What a running job uses stays.",
	.more = "Examples:\n"
		"  stoker prune --all --unused-for 7d\n"
		"  stoker prune --all --dry-run",
};

static int parse_unused_for(const char *s, int64_t *ms, struct error *err)
{
	int64_t seconds;
	if (!parse_duration(s, &seconds))
		return error_set(err, ERROR_INVALID,
			"--unused-for %s: must be digits with s, m, h or d behind", s);
	*ms = seconds * 1000;
	return 0;
}

int command_prune(struct command *c, int argc, char **argv, struct error *err)
{
	struct store_prune_options o = {0};
	const char *unused_for = NULL;
	const struct option options[] = {
		{OPTION_FLAG, 'a', "all", NULL, "images too", &o.all},
		{OPTION_STRING, 0, "unused-for", "TIME",
			"only images not used for so long: 90s, 12h, 7d", &unused_for},
		{OPTION_FLAG, 'n', "dry-run", NULL, "only say what would go", &o.dry_run},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (unused_for && parse_unused_for(unused_for, &o.unused_for_ms, err) < 0) {
		c->usage_error = true;
		return -1;
	}
	if (command_open(c, err) < 0)
		return -1;
	struct store_prune_report r;
	if (store_prune(c->store, &o, &r, err) < 0)
		return -1;
	char size[FORMAT_SIZE_MAX];
	printf("%s %llu images, %llu layers, %llu broken-off downloads: %s\n",
		o.dry_run ? "would remove" : "removed", (unsigned long long)r.images,
		(unsigned long long)r.layers, (unsigned long long)r.parts,
		format_size(r.bytes, size));
	return 0;
}
