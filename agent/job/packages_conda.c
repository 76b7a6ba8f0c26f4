// SPDX-License-Identifier: Apache-2.0
//
// environment.yml, as conda's documentation describes it.
#include "agent/job/packages_internal.h"
#include "agent/job/spec_decode.h"
#include "base/text.h"
#include "base/yaml.h"

#include <ctype.h>
#include <stddef.h>

enum { NODES_MAX = 20000, FILE_DEPTH_MAX = 6, SPEC_MAX = 1000 };

struct conda_file {
	const char *name, *prefix;
	struct json_strings channels;
	const struct json *dependencies;
	struct json_pairs variables;
};

static bool is_printable(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 127)
			return false;
	return true;
}

const char *packages_conda_complaint(const char *s)
{
	if (!*s || !is_printable(s) || strlen(s) > SPEC_MAX)
		return "must be a package, such as numpy=2.1";
	if (*s == '-')
		return "options of conda do not belong here; environment: has keys for channels "
		       "and "
		       "the like";
	if (strstr(s, "://") || strchr("./~", *s) || ends_with(s, ".conda") ||
		ends_with(s, ".tar.bz2"))
		return "is an address or a path: name the package and put its channel into "
		       "environment.channels";
	return NULL;
}

const char *packages_channel_complaint(const char *s)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";
	if (!strstr(s, "://"))
		return !*s || s[strspn(s, allowed)] || strchr("-./", *s) || strstr(s, "..")
			       ? "must be the name of a channel or its http(s) address"
			       : NULL;
	const char *complaint = data_url_complaint(s), *token = strstr(s, "/t/");
	if (!complaint && token && strchr(token + 3, '/'))
		complaint = "must not have a token (/t/…) in it: the job is kept; credentials "
			    "belong into the node's netrc";
	return complaint;
}

static int decode_channel(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	const char *complaint = packages_channel_complaint(value->string);
	return complaint ? json_decode_fail(d, value, err, ERROR_INVALID, "%s", complaint) : 0;
}

static int decode_channels(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_strings *list = target;
	void *items;
	size_t count;
	if (json_decode_array(d, value, decode_channel, sizeof(const char *), JOB_PACKAGES_MAX,
		    &items, &count, err) < 0)
		return -1;
	list->items = arena_array(d->arena, const char *, count + 1);
	for (size_t i = 0; i < count; i++) // what it asks for is always so
		if (!streq(((const char **)items)[i], "nodefaults"))
			list->items[list->count++] = ((const char **)items)[i];
	return 0;
}

static int ignore(struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	(void)d;
	(void)value;
	(void)target;
	(void)err;
	return 0;
}

static const struct json_field fields[] = {
	{"name", ignore, 0, JSON_NULLABLE},
	{"prefix", ignore, 0, JSON_NULLABLE},
	{"channels", decode_channels, offsetof(struct conda_file, channels), JSON_NULLABLE},
	{"dependencies", json_decode_any, offsetof(struct conda_file, dependencies), JSON_REQUIRED},
	{"variables", job_decode_variables, offsetof(struct conda_file, variables), JSON_NULLABLE},
	{0},
};

static int add_spec(struct packages_reader *r, struct json_decoder *d, const struct json *value,
	struct error *err)
{
	const char *spec;
	if (json_decode_string(d, value, &spec, err) < 0)
		return -1;
	const char *complaint = packages_conda_complaint(spec);
	if (complaint)
		return json_decode_fail(d, value, err, ERROR_INVALID, "%s", complaint);
	return packages_append(r->arena, &r->e->conda, spec, err);
}

static int add_pip(struct packages_reader *r, const char *path, struct json_decoder *d,
	const struct json *value, struct error *err)
{
	if (value->type != JSON_ARRAY)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be a list");
	json_array_each (item, value) {
		const char *line;
		struct error reason = {0};
		size_t entered = json_decode_enter_index(d, (size_t)(item - value->members));
		if (json_decode_string(d, &item->value, &line, err) < 0)
			return -1;
		line += strspn(line, " ");
		if (packages_add_line(r, path, line, &reason) < 0)
			return json_decode_fail(
				d, &item->value, err, reason.kind, "%s", reason.text);
		json_decode_leave(d, entered);
	}
	return 0;
}

static int add_dependency(struct packages_reader *r, const char *path, struct json_decoder *d,
	const struct json *value, struct error *err)
{
	if (value->type != JSON_OBJECT)
		return add_spec(r, d, value, err);
	json_object_each (member, value) {
		size_t entered = json_decode_enter_key(d, member->key);
		if (!streq(member->key, "pip"))
			return json_decode_fail(d, &member->value, err, ERROR_INVALID,
				"only pip: may have a list of its own");
		if (add_pip(r, path, d, &member->value, err) < 0)
			return -1;
		json_decode_leave(d, entered);
	}
	return 0;
}

static int add_dependencies(struct packages_reader *r, const char *path, struct json_decoder *d,
	const struct json *list, struct error *err)
{
	size_t entered = json_decode_enter_key(d, "dependencies");
	if (list->type != JSON_ARRAY)
		return json_decode_fail(d, list, err, ERROR_INVALID, "must be a list");
	json_array_each (item, list) {
		size_t inner = json_decode_enter_index(d, (size_t)(item - list->members));
		if (add_dependency(r, path, d, &item->value, err) < 0)
			return -1;
		json_decode_leave(d, inner);
	}
	json_decode_leave(d, entered);
	return 0;
}

int packages_read_conda(struct arena *a, int folder, const char *path, struct job_environment *e,
	struct json_pairs *variables, struct error *err)
{
	static const struct json_limits limits = {
		JOB_PACKAGES_BYTES_MAX, FILE_DEPTH_MAX, NODES_MAX};
	struct packages_reader r = {.arena = a, .folder = folder, .e = e};
	cleanup_buffer struct buffer b = {0};
	struct conda_file file = {0};
	if (packages_read_file(&r, path, &b, err) < 0)
		return -1;
	const char *data = b.data ? b.data : "";
	struct job_text text = {.data = data, .size = b.size};
	const struct json *tree = yaml_parse(a, data, b.size, path, &limits, err);
	struct json_decoder d = {.arena = a, .document = path, .positions = true, .context = &text};
	if (!tree || json_decode_object(&d, tree, fields, true, &file, err) < 0 ||
		add_dependencies(&r, path, &d, file.dependencies, err) < 0)
		return -1;
	if (file.channels.count && e->channels.count)
		return error_set(err, ERROR_INVALID,
			"%s has channels: leave out environment.channels", path);
	if (file.channels.count)
		e->channels = file.channels;
	*variables = file.variables;
	return 0;
}
