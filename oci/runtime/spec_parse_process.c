// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/spec_decode.h"
#include "oci/runtime/spec_names.h"

#include <sys/resource.h>

static int decode_umask(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	uint32_t mask;
	if (spec_decode_u32(d, value, &mask, err) < 0)
		return -1;
	if (mask > 0777)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be at most 0777 (511)");
	*(mode_t *)target = mask;
	return 0;
}

static int decode_groups(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_process *p = target;
	void *items;
	if (json_decode_array(d, value, spec_decode_id, sizeof(*p->groups), SPEC_GROUPS_MAX, &items,
		    &p->group_count, err) < 0)
		return -1;
	p->groups = items;
	return 0;
}

static int decode_user(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"uid", spec_decode_id, offsetof(struct runtime_process, uid), JSON_NULLABLE},
		{"gid", spec_decode_id, offsetof(struct runtime_process, gid), JSON_NULLABLE},
		{"umask", decode_umask, offsetof(struct runtime_process, umask), JSON_NULLABLE},
		{"additionalGids", decode_groups, 0, JSON_NULLABLE},
		{"username", spec_decode_refuse}, // of Windows
		{0},
	};
	return json_decode_object(d, value, fields, false, target, err);
}

static int decode_console_size(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct size {
		uint32_t height, width;
	} size = {0};
	static const struct json_field fields[] = {
		{"height", spec_decode_u32, offsetof(struct size, height), JSON_REQUIRED},
		{"width", spec_decode_u32, offsetof(struct size, width), JSON_REQUIRED},
		{0},
	};
	struct runtime_process *p = target;
	if (json_decode_object(d, value, fields, false, &size, err) < 0)
		return -1;
	if (size.height > UINT16_MAX || size.width > UINT16_MAX)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "no terminal is larger than 65535");
	p->rows = (uint16_t)size.height;
	p->columns = (uint16_t)size.width;
	return 0;
}

// A name that we do not know may be of a newer kernel's: it is passed over with a warning.
static int decode_capability_set(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_strings names;
	uint64_t set = 0, bit;
	if (spec_decode_words(d, value, &names, err) < 0)
		return -1;
	for (size_t i = 0; i < names.count; i++) {
		if (runtime_capability_parse(names.items[i], &bit))
			set |= bit;
		else
			spec_warn(
				d, arena_printf(d->arena, "%s: the capability \"%.64s\" is unknown",
					   d->path, names.items[i]));
	}
	*(uint64_t *)target = set;
	return 0;
}

static int decode_capabilities(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"bounding", decode_capability_set, offsetof(struct runtime_capabilities, bounding),
			JSON_NULLABLE},
		{"effective", decode_capability_set,
			offsetof(struct runtime_capabilities, effective), JSON_NULLABLE},
		{"inheritable", decode_capability_set,
			offsetof(struct runtime_capabilities, inheritable), JSON_NULLABLE},
		{"permitted", decode_capability_set,
			offsetof(struct runtime_capabilities, permitted), JSON_NULLABLE},
		{"ambient", decode_capability_set, offsetof(struct runtime_capabilities, ambient),
			JSON_NULLABLE},
		{0},
	};
	struct runtime_process *p = target;
	p->has_capabilities = true;
	return json_decode_object(d, value, fields, false, &p->capabilities, err);
}

static int decode_rlimit_type(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	const char *name;
	if (json_decode_string(d, value, &name, err) < 0)
		return -1;
	if (!runtime_rlimit_parse(name, target))
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "\"%.64s\" is no limit of Linux", name);
	return 0;
}

static int decode_rlimit(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"type", decode_rlimit_type, offsetof(struct runtime_rlimit, resource),
			JSON_REQUIRED},
		{"soft", json_decode_uint64, offsetof(struct runtime_rlimit, soft), JSON_REQUIRED},
		{"hard", json_decode_uint64, offsetof(struct runtime_rlimit, hard), JSON_REQUIRED},
		{0},
	};
	const struct runtime_rlimit *limit = target;
	if (json_decode_object(d, value, fields, false, target, err) < 0)
		return -1;
	if (limit->soft > limit->hard)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "soft: must not be above hard");
	return 0;
}

static int decode_rlimits(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_process *p = target;
	void *items;
	if (json_decode_array(d, value, decode_rlimit, sizeof(*p->rlimits), RLIM_NLIMITS, &items,
		    &p->rlimit_count, err) < 0)
		return -1;
	p->rlimits = items;
	for (size_t i = 0; i < p->rlimit_count; i++)
		for (size_t k = 0; k < i; k++)
			if (p->rlimits[i].resource == p->rlimits[k].resource)
				return json_decode_fail(d, value, err, ERROR_INVALID,
					"%s stands there twice",
					runtime_rlimit_name(p->rlimits[i].resource));
	return 0;
}

static int decode_oom_score(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_process *p = target;
	int64_t score;
	if (json_decode_int64(d, value, &score, err) < 0)
		return -1;
	if (score < -1000 || score > 1000)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be between -1000 and 1000");
	p->has_oom_score_adj = true;
	p->oom_score_adj = (int)score;
	return 0;
}

static int decode_arguments(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (spec_decode_words(d, value, target, err) < 0)
		return -1;
	if (!value->count)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must not be empty");
	return 0;
}

static const struct json_field process_fields[] = {
	{"terminal", json_decode_bool, offsetof(struct runtime_process, terminal), JSON_NULLABLE},
	{"consoleSize", decode_console_size, 0, JSON_NULLABLE},
	{"user", decode_user, 0, JSON_NULLABLE},
	{"args", decode_arguments, offsetof(struct runtime_process, args),
		JSON_REQUIRED | JSON_NULLABLE},
	{"env", spec_decode_words, offsetof(struct runtime_process, env), JSON_NULLABLE},
	{"cwd", spec_decode_absolute, offsetof(struct runtime_process, cwd), JSON_REQUIRED},
	{"capabilities", decode_capabilities, 0, JSON_NULLABLE},
	{"rlimits", decode_rlimits, 0, JSON_NULLABLE},
	{"noNewPrivileges", json_decode_bool, offsetof(struct runtime_process, no_new_privileges),
		JSON_NULLABLE},
	{"oomScoreAdj", decode_oom_score, 0, JSON_NULLABLE},
	{"commandLine", spec_decode_refuse}, // of Windows
	{"apparmorProfile", spec_decode_refuse},
	{"selinuxLabel", spec_decode_refuse},
	{"scheduler", spec_decode_refuse},
	{"ioPriority", spec_decode_refuse},
	{"execCPUAffinity", spec_decode_refuse},
	{0},
};

int spec_decode_process(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_spec *spec = target;
	spec->has_process = true;
	spec->process.umask = (mode_t)-1;
	return json_decode_object(d, value, process_fields, false, &spec->process, err);
}
