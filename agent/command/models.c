// SPDX-License-Identifier: Apache-2.0
#include "agent/command/download.h"

#include "base/text.h"
#include "base/time.h"

#include <stdio.h>

// ---- register

static const struct options_usage register_usage = {
	.verb = "models register",
	.arguments = "NAME RUN [PATH]",
	.summary = "Give what a run has left a name and the next version of it. PATH is a file or\n"
		   "folder of the run (outputs).",
	.more = "Examples:\n"
		"  stoker models register digits digits_17 outputs/model.pkl",
	.least = 2,
	.most = 3,
};

static int write_pairs(struct json_writer *w, const char *key, const struct option_strings *list,
	struct error *err)
{
	json_write_key(w, key);
	json_write_open_object(w);
	for (size_t i = 0; i < list->count; i++) {
		const char *equals = strchr(list->items[i], '=');
		if (!equals)
			return error_set(err, ERROR_INVALID, "--%s %s: must be KEY=VALUE", key,
				list->items[i]);
		cleanup_free char *name =
			xstrndup(list->items[i], (size_t)(equals - list->items[i]));
		json_write_member(w, name, equals + 1);
	}
	json_write_close_object(w);
	return 0;
}

static int register_model(struct command *c, int argc, char **argv, struct error *err)
{
	const char *description = NULL;
	bool json = false;
	cleanup_option_strings struct option_strings tags = {0};
	const struct option options[] = {
		{OPTION_STRING, 0, "description", "TEXT", "what it is", &description},
		{OPTION_STRINGS, 0, "tags", "KEY=VALUE", "may be given many times", &tags},
		{OPTION_FLAG, 0, "json", NULL, "for programs", &json},
		{OPTION_END},
	};
	cleanup_arena struct arena a = {0};
	cleanup_service struct service *s = NULL;
	const struct json *run, *model;
	char **rest;
	int count;
	int rc =
		command_options(c, options, &register_usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (remote_open(&s, err) < 0 || remote_find_run(s, rest[1], &a, &run, err) < 0)
		return -1;
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "name", rest[0]);
	json_write_member(w, "run", remote_text(run, "id"));
	json_write_member(w, "path", count > 2 ? rest[2] : "outputs");
	if (description)
		json_write_member(w, "description", description);
	if (write_pairs(w, "tags", &tags, err) < 0)
		return -1;
	json_write_close_object(w);
	if (service_call(s, "POST", "/v1/models", w, &a, &model, err) < 0)
		return -1;
	if (json)
		return remote_print_json(model, err);
	printf("%s %lld\n", remote_text(model, "name"),
		(long long)json_get_integer(model, "version", 0));
	return 0;
}

// ---- list

static const struct options_usage list_usage = {
	.verb = "models list",
	.arguments = "[NAME]",
	.summary = "List models and their versions.",
	.most = 1,
};

static int list_models(struct command *c, int argc, char **argv, struct error *err)
{
	bool json = false;
	const struct option options[] = {
		{OPTION_FLAG, 0, "json", NULL, "for programs", &json},
		{OPTION_END},
	};
	cleanup_arena struct arena a = {0};
	cleanup_service struct service *s = NULL;
	const struct json *answer;
	char **rest, created[TIME_TEXT_SIZE];
	int count;
	int rc = command_options(c, options, &list_usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	const char *path =
		count ? arena_printf(&a, "/v1/models?name=%s", service_escape(&a, rest[0], false))
		      : "/v1/models";
	if (remote_open(&s, err) < 0 || service_call(s, "GET", path, NULL, &a, &answer, err) < 0)
		return -1;
	if (json)
		return remote_print_json(answer, err);
	const struct json *list = json_get(answer, "models");
	printf("%-32s  %7s  %-20s  %s\n", "MODEL", "VERSION", "CREATED", "OF");
	if (list && list->type == JSON_ARRAY)
		json_array_each (item, list)
			printf("%-32s  %7lld  %.19sZ  %s %s\n", remote_text(&item->value, "name"),
				(long long)json_get_integer(&item->value, "version", 0),
				format_time(json_get_integer(&item->value, "created", 0), created),
				remote_text(&item->value, "run"),
				remote_text(&item->value, "path"));
	return 0;
}

// ---- download

static const struct options_usage download_usage = {
	.verb = "models download",
	.arguments = "NAME [VERSION]",
	.summary = "Download a model, its last version if none is named.",
	.least = 1,
	.most = 2,
};

static int last_version(
	struct service *s, const char *name, struct arena *a, int64_t *version, struct error *err)
{
	const struct json *answer;
	const char *path = arena_printf(a, "/v1/models/%s", service_escape(a, name, false));
	if (service_call(s, "GET", path, NULL, a, &answer, err) < 0)
		return -1;
	*version = 0;
	const struct json *list = json_get(answer, "models");
	if (list && list->type == JSON_ARRAY)
		json_array_each (item, list) {
			int64_t n = json_get_integer(&item->value, "version", 0);
			*version = n > *version ? n : *version;
		}
	return 0;
}

static int download_model(struct command *c, int argc, char **argv, struct error *err)
{
	const char *target = NULL;
	bool json = false;
	const struct option options[] = {
		{OPTION_STRING, 'o', "output", "DIR", "the folder to put it in (the model's name)",
			&target},
		{OPTION_FLAG, 0, "json", NULL, "print what is there then, for programs", &json},
		{OPTION_END},
	};
	cleanup_arena struct arena a = {0};
	cleanup_service struct service *s = NULL;
	const struct json *model;
	char **rest;
	int count;
	int64_t version = 0;
	uint64_t wanted = 0;
	int rc =
		command_options(c, options, &download_usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (count > 1 && (!parse_u64(rest[1], &wanted) || !wanted || wanted > INT64_MAX)) {
		c->usage_error = true;
		return error_set(err, ERROR_INVALID, "%s is not a version", rest[1]);
	}
	if (remote_open(&s, err) < 0 ||
		(!wanted && last_version(s, rest[0], &a, &version, err) < 0))
		return -1;
	const char *path =
		arena_printf(&a, "/v1/models/%s/%lld", service_escape(&a, rest[0], false),
			wanted ? (long long)wanted : (long long)version);
	if (service_call(s, "GET", path, NULL, &a, &model, err) < 0)
		return -1;
	// Below the folder of its path: outputs/model.pkl becomes model.pkl.
	char *above = arena_strdup(&a, remote_text(model, "path"));
	char *slash = strrchr(above, '/');
	if (slash)
		*slash = '\0';
	cleanup_json_writer struct json_writer *w = download_json_begin(json);
	const struct download d = {.json = w,
		.list = arena_printf(&a, "%s/files", path),
		.strip = above,
		.target = target ? target : rest[0]};
	int64_t files = download_files(s, &d, err);
	if (files < 0)
		return -1;
	return download_report(&d, files, err);
}

int command_models(struct command *c, int argc, char **argv, struct error *err)
{
	static const struct {
		const char *name;
		command_fn *run;
	} verbs[] = {
		{"register", register_model},
		{"list", list_models},
		{"download", download_model},
	};
	for (size_t i = 0; argc > 1 && i < array_size(verbs); i++)
		if (streq(argv[1], verbs[i].name))
			return verbs[i].run(c, argc - 1, argv + 1, err);
	if (argc > 1 && streq(argv[1], "--help")) {
		printf("Usage: stoker models register|list|download …\n\n"
		       "Models are names with versions for what runs have left.\n");
		return 0;
	}
	c->usage_error = true;
	return error_set(err, ERROR_INVALID,
		"models: register, list or download is missing; see: stoker models --help");
}
