// SPDX-License-Identifier: Apache-2.0
#include "agent/job/spec.h"

#include "agent/job/spec_decode.h"
#include "base/file.h"
#include "base/text.h"
#include "base/yaml.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>

enum { NODES_MAX = 20000, DEPTH_MAX = 8 };

static const char letters_digits[] =
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

// What the parser's decoders share (json_decoder.context).
struct source {
	const char *data;
	size_t size;
};

// The text of a number as it stands in the document: 3.10 must not reach the script as 3.1, nor
// 1e-3 as 0.001. The position tells where; if what stands there is not this number (it cannot
// happen), the shortest text that reads back as the same number.
static const char *number_text(struct json_decoder *d, const struct json *value)
{
	const struct source *src = d->context;
	const char *p = src->data, *end = p + src->size;
	for (uint32_t line = 1; p < end && line < value->line; p++)
		line += *p == '\n';
	for (uint32_t column = 1; p < end && column < value->column; p++)
		column += p + 1 == end || ((unsigned char)p[1] & 0xC0) != 0x80;
	size_t n = 0;
	while (p + n < end && n < 64 && strchr("0123456789.eE+-", p[n]) && p[n])
		n++;
	char *text = arena_strndup(d->arena, p, n), *stop;
	if (n && strtod(text, &stop) == value->number && !*stop)
		return text;
	return arena_printf(d->arena, "%.17g", value->number);
}

// A scalar as the text that a program gets.
static int decode_text(
	struct json_decoder *d, const struct json *value, const char **text, struct error *err)
{
	switch (value->type) {
	case JSON_STRING:
		*text = value->string;
		break;
	case JSON_INTEGER:
		*text = arena_printf(d->arena, "%lld", (long long)value->integer);
		break;
	case JSON_NUMBER:
		*text = number_text(d, value);
		break;
	case JSON_BOOL:
		*text = value->boolean ? "true" : "false";
		break;
	default:
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be a string, a number or a boolean");
	}
	if (strlen(*text) > JOB_ARGUMENT_BYTES_MAX)
		return json_decode_fail(
			d, value, err, ERROR_LIMIT, "longer than %d bytes", JOB_ARGUMENT_BYTES_MAX);
	return 0;
}

static int decode_argument(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_text(d, value, target, err);
}

// {"--rate": 0.1, "--verbose": ""}: keys and values in order, without the empty ones.
static int decode_mapping(struct json_decoder *d, const struct json *value,
	struct json_strings *arguments, struct error *err)
{
	arguments->items = arena_array(d->arena, const char *, value->count * 2 + 1);
	json_object_each (member, value) {
		const char *text = "";
		size_t entered = json_decode_enter_key(d, member->key);
		if (member->value.type != JSON_NULL &&
			decode_text(d, &member->value, &text, err) < 0)
			return -1;
		json_decode_leave(d, entered);
		if (*member->key)
			arguments->items[arguments->count++] = member->key;
		if (*text)
			arguments->items[arguments->count++] = text;
	}
	return 0;
}

static int decode_params(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_strings *arguments = target, all = {0};
	if (value->type != JSON_OBJECT && value->type != JSON_ARRAY)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a mapping (--name: value) or a list");
	if (value->count > JOB_ARGUMENTS_MAX)
		return json_decode_fail(d, value, err, ERROR_LIMIT,
			"%zu entries, at most %d are allowed", value->count, JOB_ARGUMENTS_MAX);
	if (value->type == JSON_OBJECT) {
		if (decode_mapping(d, value, &all, err) < 0)
			return -1;
	} else {
		void *items;
		if (json_decode_array(d, value, decode_argument, sizeof(const char *),
			    JOB_ARGUMENTS_MAX, &items, &all.count, err) < 0)
			return -1;
		all.items = arena_array(d->arena, const char *, all.count + 1);
		if (all.count)
			memcpy(all.items, items, all.count * sizeof(*all.items));
	}
	*arguments = all;
	return 0;
}

static int decode_variables(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_pairs *pairs = target, all = {0};
	if (value->type != JSON_OBJECT)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be a mapping (NAME: value)");
	if (value->count > JOB_VARIABLES_MAX)
		return json_decode_fail(d, value, err, ERROR_LIMIT,
			"%zu variables, at most %d are allowed", value->count, JOB_VARIABLES_MAX);
	all.items = arena_array(d->arena, struct json_pair, value->count);
	json_object_each (member, value) {
		struct json_pair *pair = &all.items[all.count++];
		struct json place = {.line = member->line, .column = member->column};
		size_t entered = json_decode_enter_key(d, member->key);
		if (!*member->key || strchr(member->key, '='))
			return json_decode_fail(d, &place, err, ERROR_INVALID,
				"the name of a variable is neither empty nor has a '='");
		pair->key = member->key;
		pair->value = "";
		if (member->value.type != JSON_NULL &&
			decode_text(d, &member->value, &pair->value, err) < 0)
			return -1;
		json_decode_leave(d, entered);
	}
	*pairs = all;
	return 0;
}

int job_decode_size(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	uint64_t bytes = 0;
	bool ok = false;
	if (value->type == JSON_INTEGER && value->integer > 0) {
		bytes = (uint64_t)value->integer;
		ok = true;
	} else if (value->type == JSON_STRING) {
		ok = parse_size(value->string, &bytes) && bytes > 0;
	}
	if (!ok)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a size over 0: a number of bytes, or digits with k, m, g or t "
			"behind");
	*(uint64_t *)target = bytes;
	return 0;
}

static int decode_experiment(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct error reason = {0};
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	if (job_experiment_check(*(const char **)target, &reason) < 0)
		return json_decode_fail(d, value, err, ERROR_INVALID, "%s", reason.text);
	return 0;
}

int job_decode_nonempty(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	if (!value->length)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must not be empty");
	return 0;
}

static int decode_script(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (job_decode_nonempty(d, value, target, err) < 0)
		return -1;
	if (*value->string == '/')
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a path relative to source_directory");
	return 0;
}

int job_decode_name(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return data_name_decode(d, value, target, err);
}

static int decode_inputs(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct job_spec *s = target;
	void *items;
	if (json_decode_array(d, value, data_source_decode, sizeof(struct data_source),
		    JOB_INPUTS_MAX, &items, &s->input_count, err) < 0)
		return -1;
	s->inputs = items;
	for (size_t i = 0; i < s->input_count; i++)
		for (size_t k = 0; k < i; k++)
			if (streq(s->inputs[i].name, s->inputs[k].name))
				return json_decode_fail(d, &value->members[i].value, err,
					ERROR_INVALID, "there are two inputs with the name %s",
					s->inputs[i].name);
	return 0;
}

static int decode_later(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	(void)target;
	return json_decode_fail(d, value, err, ERROR_INVALID, "not supported by this version");
}

static const struct json_field fields[] = {
	{"experiment", decode_experiment, offsetof(struct job_spec, experiment), JSON_NULLABLE},
	{"source_directory", job_decode_nonempty, offsetof(struct job_spec, source_directory),
		JSON_NULLABLE},
	{"entry_script", decode_script, offsetof(struct job_spec, entry_script), JSON_REQUIRED},
	{"script_params", decode_params, offsetof(struct job_spec, arguments), JSON_NULLABLE},
	{"custom_docker_image", job_decode_nonempty, offsetof(struct job_spec, image),
		JSON_NULLABLE},
	{"environment_variables", decode_variables, offsetof(struct job_spec, variables),
		JSON_NULLABLE},
	{"inputs", decode_inputs, 0, JSON_NULLABLE},
	{"shm_size", job_decode_size, offsetof(struct job_spec, shm_size), JSON_NULLABLE},
	{"max_run_duration_seconds", job_decode_seconds, offsetof(struct job_spec, max_seconds),
		JSON_NULLABLE},
	{"network", policy_decode_network, offsetof(struct job_spec, network), JSON_NULLABLE},
	{"resources", job_decode_resources, offsetof(struct job_spec, resources), JSON_NULLABLE},
	{"secrets", job_decode_secrets, 0, JSON_NULLABLE},
	{"conda_dependencies_file", decode_later},
	{"conda_packages", decode_later},
	{"distributed_training", decode_later},
	{"node_count", decode_later},
	{"pip_packages", decode_later},
	{"pip_requirements_file", decode_later},
	{"process_count_per_node", decode_later},
	{"user_managed", decode_later},
	{0},
};

int job_experiment_check(const char *experiment, struct error *err)
{
	size_t n = strlen(experiment);
	if (n == 0 || n > JOB_EXPERIMENT_MAX || experiment[strspn(experiment, letters_digits)] ||
		!isalnum((unsigned char)*experiment))
		return error_set(err, ERROR_INVALID,
			"must be letters, digits, '-', '_' and '.', a letter or digit first, %d at "
			"most",
			JOB_EXPERIMENT_MAX);
	return 0;
}

int job_spec_parse(
	struct job_spec *s, const char *data, size_t size, const char *name, struct error *err)
{
	static const struct json_limits limits = {JOB_BYTES_MAX, DEPTH_MAX, NODES_MAX};
	struct source source = {data, size};
	const struct json *tree = yaml_parse(&s->arena, data, size, name, &limits, err);
	if (!tree)
		return -1;
	struct json_decoder d = {
		.arena = &s->arena, .document = name, .positions = true, .context = &source};
	s->experiment = "run";
	s->source_directory = ".";
	return json_decode_object(&d, tree, fields, true, s, err);
}

// `path` counted from the folder of the file `document`.
static const char *resolve(struct job_spec *s, const char *document, const char *path)
{
	size_t n = (size_t)(path_base(document) - document);
	if (*path == '/')
		return path;
	return arena_printf(&s->arena, "%.*s%s", (int)n, document, path);
}

int job_spec_load(struct job_spec *s, const char *path, struct error *err)
{
	cleanup_free char *absolute = path_absolute(path, err);
	if (!absolute || file_read(AT_FDCWD, path, JOB_BYTES_MAX, &s->document, err) < 0)
		return -1;
	const char *data = s->document.data ? s->document.data : "";
	if (job_spec_parse(s, data, s->document.size, path, err) < 0)
		return -1;
	s->source_directory = resolve(s, absolute, s->source_directory);
	for (size_t i = 0; i < s->input_count; i++)
		if (s->inputs[i].path)
			s->inputs[i].path = resolve(s, absolute, s->inputs[i].path);
	for (size_t i = 0; i < s->secret_count; i++)
		if (s->secrets[i].file)
			s->secrets[i].file = resolve(s, absolute, s->secrets[i].file);
	return 0;
}

void job_spec_release(struct job_spec *s)
{
	arena_release(&s->arena);
	buffer_release(&s->document);
}
