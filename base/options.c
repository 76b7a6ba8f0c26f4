// SPDX-License-Identifier: Apache-2.0
#include "base/options.h"

#include "base/memory.h"
#include "base/text.h"

#include <stdio.h>

void option_strings_release(struct option_strings *s)
{
	free(s->items);
	*s = (struct option_strings){0};
}

static const char *program_of(const struct options_usage *usage)
{
	return usage->program ? usage->program : "stoker";
}

static void print_help(const struct option *options, const struct options_usage *usage)
{
	printf("Usage: %s %s [OPTIONS] %s\n\n%s\n\nOptions:\n", program_of(usage), usage->verb,
		usage->arguments, usage->summary);
	for (const struct option *o = options; o->type != OPTION_END; o++) {
		char left[64];
		snprintf(left, sizeof(left), "%c%c%s--%s%s%s", o->letter ? '-' : ' ',
			o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name,
			o->argument ? " " : "", o->argument ? o->argument : "");
		printf("  %-30s %s\n", left, o->help);
	}
	printf("  %-30s %s\n", "    --help", "show this");
	if (usage->more)
		printf("\n%s\n", usage->more);
}

static const struct option *find_long(const struct option *options, const char *name, size_t length)
{
	for (const struct option *o = options; o->type != OPTION_END; o++)
		if (strlen(o->name) == length && strncmp(o->name, name, length) == 0)
			return o;
	return NULL;
}

static const struct option *find_short(const struct option *options, char letter)
{
	for (const struct option *o = options; o->type != OPTION_END; o++)
		if (o->letter && o->letter == letter)
			return o;
	return NULL;
}

struct parser {
	const struct option *options;
	const struct options_usage *usage;
	int argc, at;
	char **argv;
};

static int usage_error(
	const struct parser *p, struct error *err, const char *what, const char *which)
{
	const char *verb = p->usage->verb;
	return error_set(err, ERROR_INVALID, "%s %s; see: %s %s%s--help", what, which,
		program_of(p->usage), verb, *verb ? " " : "");
}

static int store(
	const struct parser *p, const struct option *o, const char *value, struct error *err)
{
	struct option_strings *s = o->target;
	switch (o->type) {
	case OPTION_FLAG:
		*(bool *)o->target = true;
		break;
	case OPTION_STRING:
		*(const char **)o->target = value;
		break;
	case OPTION_NUMBER:
		if (!parse_u64(value, o->target))
			return usage_error(p, err, "not a number:", value);
		break;
	default:
		s->items = xreallocarray(s->items, s->count + 1, sizeof(*s->items));
		s->items[s->count++] = value;
	}
	return 0;
}

// "--name", "--name=value", "--name value".
static int parse_long(struct parser *p, const char *argument, struct error *err)
{
	const char *name = argument + 2, *equals = strchr(name, '=');
	size_t length = equals ? (size_t)(equals - name) : strlen(name);
	const struct option *o = find_long(p->options, name, length);
	if (!o)
		return usage_error(p, err, "unknown option", argument);
	if (o->type == OPTION_FLAG) {
		if (equals)
			return usage_error(p, err, "no value belongs to", argument);
		return store(p, o, NULL, err);
	}
	if (equals)
		return store(p, o, equals + 1, err);
	if (p->at == p->argc)
		return usage_error(p, err, "a value is missing behind", argument);
	return store(p, o, p->argv[p->at++], err);
}

// "-x", "-xvalue", "-x value", "-xyz" for flags.
static int parse_short(struct parser *p, const char *argument, struct error *err)
{
	for (const char *c = argument + 1; *c; c++) {
		const struct option *o = find_short(p->options, *c);
		if (!o)
			return usage_error(p, err, "unknown option", argument);
		if (o->type == OPTION_FLAG) {
			if (store(p, o, NULL, err) < 0)
				return -1;
			continue;
		}
		if (c[1])
			return store(p, o, c + 1, err);
		if (p->at == p->argc)
			return usage_error(p, err, "a value is missing behind", argument);
		return store(p, o, p->argv[p->at++], err);
	}
	return 0;
}

int options_parse(const struct option *options, const struct options_usage *usage,
	bool stop_at_positional, int argc, char **argv, char ***rest, int *rest_count,
	struct error *err)
{
	struct parser p = {options, usage, argc, 1, argv};
	int kept = 1;
	while (p.at < argc) {
		char *argument = argv[p.at++];
		if (streq(argument, "--help") || streq(argument, "-h")) {
			if (usage->help)
				usage->help();
			else
				print_help(options, usage);
			return OPTIONS_HELP;
		}
		bool last = streq(argument, "--");
		if (!last && argument[0] == '-' && argument[1] == '-') {
			if (parse_long(&p, argument, err) < 0)
				return -1;
			continue;
		}
		if (!last && argument[0] == '-' && argument[1]) {
			if (parse_short(&p, argument, err) < 0)
				return -1;
			continue;
		}
		// Positional arguments are moved together at the front.
		if (!last)
			argv[kept++] = argument;
		if (last || stop_at_positional) {
			while (p.at < argc)
				argv[kept++] = argv[p.at++];
		}
	}
	*rest = argv + 1;
	*rest_count = kept - 1;
	if (*rest_count < usage->least)
		return usage_error(&p, err, "missing:", usage->arguments);
	if (usage->most >= 0 && *rest_count > usage->most)
		return usage_error(&p, err, "unexpected argument", (*rest)[usage->most]);
	return OPTIONS_OK;
}
