// SPDX-License-Identifier: Apache-2.0
//
// Values as programs get them: script_params, environment_variables, tags; and references to inputs
// in the first.
#include "agent/job/spec_decode.h"
#include "base/text.h"

#include <ctype.h>
#include <stdlib.h>

// The text of a number as it stands in the document: 3.10 must not reach the script as 3.1, nor
// 1e-3 as 0.001. The position tells where; if what stands there is not this number (it cannot
// happen), the shortest text that reads back as the same number.
static const char *number_text(struct json_decoder *d, const struct json *value)
{
	const struct job_text *src = d->context;
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

// ---- references to inputs

static const char azure_input[] = "DatasetConsumptionConfig:";
static const char azure_output[] = "DatasetOutputConfig:";
static const char azure_reference[] = "$AZUREML_DATAREFERENCE_";

static size_t name_length(const char *s)
{
	size_t n = 0;
	while (isalnum((unsigned char)s[n]) || s[n] == '_')
		n++;
	return n;
}

static const struct data_source *find_input(const struct job_spec *s, const char *name, size_t n)
{
	for (size_t i = 0; i < s->input_count; i++)
		if (strlen(s->inputs[i].name) == n && strncmp(s->inputs[i].name, name, n) == 0)
			return &s->inputs[i];
	return NULL;
}

// Append what the script gets for an input.
static int add_input(struct json_decoder *d, const struct json *value, const struct job_spec *s,
	const char *name, size_t n, struct buffer *out, struct error *err)
{
	const struct data_source *input = find_input(s, name, n);
	if (!input)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"there is no input \"%.*s\"; inputs: names them", (int)(n < 64 ? n : 64),
			name);
	buffer_puts(out, data_source_reference(input));
	return 0;
}

// "${{ inputs.NAME }}" at *at; moves it behind that.
static int expand_braces(struct json_decoder *d, const struct json *value, const struct job_spec *s,
	const char **at, struct buffer *out, struct error *err)
{
	const char *name = *at + 3, *end = strstr(*at, "}}");
	name += strspn(name, " ");
	size_t n = end && starts_with(name, "inputs.") ? name_length(name + 7) : 0;
	if (!n || name + 7 + n + strspn(name + 7 + n, " ") != end)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"of ${{…}} only ${{inputs.NAME}} is known; results go to ./outputs");
	*at = end + 2;
	return add_input(d, value, s, name + 7, n, out, err);
}

// All forms that stand inside a text. What is no reference stays as it is.
static int expand(struct json_decoder *d, const struct json *value, const struct job_spec *s,
	const char **text, struct error *err)
{
	struct job_text *all = d->context;
	cleanup_buffer struct buffer out = {0};
	const char *p = *text;
	size_t azure = sizeof(azure_reference) - 1;
	if (starts_with(p, azure_output))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"outputs are no inputs: let the script write to ./outputs");
	if (starts_with(p, azure_input)) {
		p += sizeof(azure_input) - 1;
		if (add_input(d, value, s, p, strlen(p), &out, err) < 0)
			return -1;
		p = "";
	}
	while (*p && out.size <= JOB_ARGUMENT_BYTES_MAX) {
		size_t n = 0;
		if (starts_with(p, "${{")) {
			if (expand_braces(d, value, s, &p, &out, err) < 0)
				return -1;
		} else if (starts_with(p, azure_reference) && (n = name_length(p + azure))) {
			if (add_input(d, value, s, p + azure, n, &out, err) < 0)
				return -1;
			p += azure + n;
		} else {
			buffer_putc(&out, *p++);
		}
	}
	all->expanded += out.size;
	if (out.size > JOB_ARGUMENT_BYTES_MAX || all->expanded > JOB_ARGUMENTS_BYTES_MAX)
		return json_decode_fail(d, value, err, ERROR_LIMIT,
			"longer than %d bytes with the inputs filled in, or %d with all other "
			"arguments",
			JOB_ARGUMENT_BYTES_MAX, JOB_ARGUMENTS_BYTES_MAX);
	*text = arena_strndup(d->arena, out.data ? out.data : "", out.size);
	return 0;
}

// {input: NAME}
static int decode_reference(struct json_decoder *d, const struct json *value,
	const struct job_spec *s, const char **text, struct error *err)
{
	static const struct json_field fields[] = {
		{"input", data_name_decode, 0, JSON_REQUIRED},
		{0},
	};
	const char *name;
	cleanup_buffer struct buffer out = {0};
	if (json_decode_object(d, value, fields, true, &name, err) < 0 ||
		add_input(d, json_get(value, "input"), s, name, strlen(name), &out, err) < 0)
		return -1;
	*text = arena_strdup(d->arena, out.data);
	return 0;
}

static int decode_argument(struct json_decoder *d, const struct json *value,
	const struct job_spec *s, const char **text, struct error *err)
{
	if (value->type == JSON_OBJECT)
		return decode_reference(d, value, s, text, err);
	if (decode_text(d, value, text, err) < 0)
		return -1;
	bool plain = !strstr(*text, "${{") && !strstr(*text, azure_reference) &&
		     !starts_with(*text, azure_input) && !starts_with(*text, azure_output);
	return plain ? 0 : expand(d, value, s, text, err);
}

// {"--rate": 0.1, "--verbose": ""}: keys and values in order, without the empty ones.
static int decode_mapping(struct json_decoder *d, const struct json *value,
	const struct job_spec *s, struct json_strings *arguments, struct error *err)
{
	json_object_each (member, value) {
		const char *text = "";
		size_t entered = json_decode_enter_key(d, member->key);
		if (member->value.type != JSON_NULL &&
			decode_argument(d, &member->value, s, &text, err) < 0)
			return -1;
		json_decode_leave(d, entered);
		if (*member->key)
			arguments->items[arguments->count++] = member->key;
		if (*text)
			arguments->items[arguments->count++] = text;
	}
	return 0;
}

static int decode_list(struct json_decoder *d, const struct json *value, const struct job_spec *s,
	struct json_strings *arguments, struct error *err)
{
	for (size_t i = 0; i < value->count; i++) {
		size_t entered = json_decode_enter_index(d, i);
		if (decode_argument(d, &value->members[i].value, s,
			    &arguments->items[arguments->count++], err) < 0)
			return -1;
		json_decode_leave(d, entered);
	}
	return 0;
}

int job_decode_params(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct job_spec *s = target;
	struct json_strings all = {0};
	if (value->type != JSON_OBJECT && value->type != JSON_ARRAY)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a mapping (--name: value) or a list");
	if (value->count > JOB_ARGUMENTS_MAX)
		return json_decode_fail(d, value, err, ERROR_LIMIT,
			"%zu entries, at most %d are allowed", value->count, JOB_ARGUMENTS_MAX);
	all.items = arena_array(d->arena, const char *, value->count * 2 + 1);
	if ((value->type == JSON_OBJECT ? decode_mapping(d, value, s, &all, err)
					: decode_list(d, value, s, &all, err)) < 0)
		return -1;
	s->arguments = all;
	return 0;
}

// ---- mappings of names to texts

static int decode_named(struct json_decoder *d, const struct json *value, const char *what,
	size_t most, struct json_pairs *pairs, struct error *err)
{
	struct json_pairs all = {0};
	if (value->type != JSON_OBJECT)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be a mapping (NAME: value)");
	if (value->count > most)
		return json_decode_fail(d, value, err, ERROR_LIMIT,
			"%zu %ss, at most %zu are allowed", value->count, what, most);
	all.items = arena_array(d->arena, struct json_pair, value->count);
	json_object_each (member, value) {
		struct json_pair *pair = &all.items[all.count++];
		struct json place = {.line = member->line, .column = member->column};
		size_t entered = json_decode_enter_key(d, member->key);
		if (!*member->key || strchr(member->key, '='))
			return json_decode_fail(d, &place, err, ERROR_INVALID,
				"the name of a %s is neither empty nor has a '='", what);
		*pair = (struct json_pair){member->key, ""};
		if (member->value.type != JSON_NULL &&
			decode_text(d, &member->value, &pair->value, err) < 0)
			return -1;
		json_decode_leave(d, entered);
	}
	*pairs = all;
	return 0;
}

int job_decode_variables(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_named(d, value, "variable", JOB_VARIABLES_MAX, target, err);
}

int job_decode_tags(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return decode_named(d, value, "tag", JOB_TAGS_MAX, target, err);
}
