// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/spec_decode.h"

#include "base/text.h"

static int decode_index(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	uint32_t index;
	if (spec_decode_u32(d, value, &index, err) < 0)
		return -1;
	if (index > 5)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "a system call has six arguments, 0 to 5");
	*(unsigned *)target = index;
	return 0;
}

static int decode_argument(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"index", decode_index, offsetof(struct runtime_seccomp_argument, index),
			JSON_REQUIRED},
		{"value", json_decode_uint64, offsetof(struct runtime_seccomp_argument, value),
			JSON_REQUIRED},
		{"valueTwo", json_decode_uint64,
			offsetof(struct runtime_seccomp_argument, value_two), JSON_NULLABLE},
		{"op", json_decode_string, offsetof(struct runtime_seccomp_argument, op),
			JSON_REQUIRED},
		{0},
	};
	return json_decode_object(d, value, fields, false, target, err);
}

// Several of one index are allowed by the specification (each of them must hold).
enum { ARGUMENTS_MAX = 64 };

static int decode_arguments(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_seccomp_rule *rule = target;
	void *items;
	if (json_decode_array(d, value, decode_argument, sizeof(*rule->arguments), ARGUMENTS_MAX,
		    &items, &rule->argument_count, err) < 0)
		return -1;
	rule->arguments = items;
	return 0;
}

static int decode_errno(struct json_decoder *d, const struct json *value, bool *has,
	unsigned *errno_value, struct error *err)
{
	uint32_t number;
	if (spec_decode_u32(d, value, &number, err) < 0)
		return -1;
	if (number > 4095)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be at most 4095");
	*has = true;
	*errno_value = number;
	return 0;
}

static int decode_rule_errno(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_seccomp_rule *rule = target;
	return decode_errno(d, value, &rule->has_errno, &rule->errno_value, err);
}

static int decode_default_errno(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_seccomp *s = target;
	return decode_errno(d, value, &s->has_default_errno, &s->default_errno, err);
}

static int decode_rule(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"names", spec_decode_words, offsetof(struct runtime_seccomp_rule, names),
			JSON_REQUIRED},
		{"action", json_decode_string, offsetof(struct runtime_seccomp_rule, action),
			JSON_REQUIRED},
		{"errnoRet", decode_rule_errno, 0, JSON_NULLABLE},
		{"args", decode_arguments, 0, JSON_NULLABLE},
		{0},
	};
	const struct runtime_seccomp_rule *rule = target;
	if (json_decode_object(d, value, fields, false, target, err) < 0)
		return -1;
	if (!rule->names.count)
		return json_decode_fail(d, value, err, ERROR_INVALID, "names: must not be empty");
	return 0;
}

static int decode_rules(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_seccomp *s = target;
	void *items;
	if (json_decode_array(d, value, decode_rule, sizeof(*s->rules), SPEC_RULES_MAX, &items,
		    &s->rule_count, err) < 0)
		return -1;
	s->rules = items;
	return 0;
}

static const struct json_field seccomp_fields[] = {
	{"defaultAction", spec_decode_word, offsetof(struct runtime_seccomp, default_action), 0},
	{"defaultErrnoRet", decode_default_errno, 0, JSON_NULLABLE},
	{"architectures", spec_decode_words, offsetof(struct runtime_seccomp, architectures),
		JSON_NULLABLE},
	{"flags", spec_decode_words, offsetof(struct runtime_seccomp, flags), JSON_NULLABLE},
	{"syscalls", decode_rules, 0, JSON_NULLABLE},
	// Decisions about system calls would be made by a process that we do not know.
	{"listenerPath", spec_decode_refuse},
	{"listenerMetadata", spec_decode_refuse},
	{0},
};

int spec_decode_seccomp(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	const struct runtime_seccomp *s = target;
	if (json_decode_object(d, value, seccomp_fields, false, target, err) < 0)
		return -1;
	// "seccomp": {} is no filter; rules without a default would be lost in silence.
	if (!s->default_action && value->count)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "key \"defaultAction\" is missing");
	return 0;
}
