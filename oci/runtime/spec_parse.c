// SPDX-License-Identifier: Apache-2.0
//
// config.json from its top. Sections that are longer stand in files of their own.
#include "oci/runtime/spec_decode.h"
#include "oci/runtime/spec_names.h"

#include "base/text.h"

#include <ctype.h>

// Versions of the form 1.x stay compatible with each other; others may mean anything.
static int decode_version(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	if (!starts_with(value->string, "1.") || !isdigit((unsigned char)value->string[2]))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"\"%.40s\" is not a version 1.x of the specification", value->string);
	return 0;
}

static int decode_root(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"path", spec_decode_word, offsetof(struct runtime_spec, root_path), JSON_REQUIRED},
		{"readonly", json_decode_bool, offsetof(struct runtime_spec, root_read_only),
			JSON_NULLABLE},
		{0},
	};
	struct runtime_spec *spec = target;
	if (json_decode_object(d, value, fields, false, target, err) < 0)
		return -1;
	if (!spec->root_path)
		return json_decode_fail(d, value, err, ERROR_INVALID, "path: must not be empty");
	return 0;
}

// Relative ones are deprecated, and count from the root.
static int decode_destination(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	if (!value->length)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must not be empty");
	if (*value->string != '/')
		*(const char **)target = arena_printf(d->arena, "/%s", value->string);
	return 0;
}

static int decode_mount(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"destination", decode_destination, offsetof(struct runtime_mount, destination),
			JSON_REQUIRED},
		{"type", spec_decode_word, offsetof(struct runtime_mount, type), JSON_NULLABLE},
		{"source", spec_decode_word, offsetof(struct runtime_mount, source), JSON_NULLABLE},
		{"options", spec_decode_words, offsetof(struct runtime_mount, options),
			JSON_NULLABLE},
		{"uidMappings", spec_decode_id_maps, offsetof(struct runtime_mount, uid_mappings),
			JSON_NULLABLE},
		{"gidMappings", spec_decode_id_maps, offsetof(struct runtime_mount, gid_mappings),
			JSON_NULLABLE},
		{0},
	};
	return json_decode_object(d, value, fields, false, target, err);
}

int spec_decode_mounts(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_spec *spec = target;
	void *items;
	if (json_decode_array(d, value, decode_mount, sizeof(*spec->mounts), SPEC_MOUNTS_MAX,
		    &items, &spec->mount_count, err) < 0)
		return -1;
	spec->mounts = items;
	return 0;
}

static int decode_timeout(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	int64_t seconds;
	if (json_decode_int64(d, value, &seconds, err) < 0)
		return -1;
	if (seconds <= 0 || seconds > INT32_MAX)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be over 0");
	*(int *)target = (int)seconds;
	return 0;
}

static int decode_hook(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"path", spec_decode_absolute, offsetof(struct runtime_hook, path), JSON_REQUIRED},
		{"args", spec_decode_words, offsetof(struct runtime_hook, args), JSON_NULLABLE},
		{"env", spec_decode_words, offsetof(struct runtime_hook, env), JSON_NULLABLE},
		{"timeout", decode_timeout, offsetof(struct runtime_hook, timeout), JSON_NULLABLE},
		{0},
	};
	return json_decode_object(d, value, fields, false, target, err);
}

int spec_decode_hooks(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_spec *spec = target;
	if (value->type != JSON_OBJECT)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be an object");
	for (size_t i = 0; i < RUNTIME_HOOK_POINTS; i++) {
		const struct json *list = json_get(value, runtime_hook_names[i]);
		void *items;
		if (!list || list->type == JSON_NULL)
			continue;
		size_t entered = json_decode_enter_key(d, runtime_hook_names[i]);
		if (json_decode_array(d, list, decode_hook, sizeof(struct runtime_hook),
			    SPEC_HOOKS_MAX, &items, &spec->hooks[i].count, err) < 0)
			return -1;
		json_decode_leave(d, entered);
		spec->hooks[i].items = items;
	}
	return 0;
}

static const struct json *parse_document(
	struct arena *a, const char *data, size_t size, const char *name, struct error *err)
{
	struct json_limits limits = json_limits_default;
	limits.bytes = RUNTIME_SPEC_BYTES_MAX;
	limits.unsigned_integers = true; // limits are, and values of seccomp
	return json_parse(a, data, size, name, &limits, err);
}

int runtime_spec_parse(struct arena *a, const char *data, size_t size, const char *name,
	struct runtime_spec *spec, struct error *err)
{
	static const struct json_field fields[] = {
		{"ociVersion", decode_version, offsetof(struct runtime_spec, version),
			JSON_REQUIRED},
		{"process", spec_decode_process, 0, JSON_NULLABLE},
		{"root", decode_root, 0, JSON_REQUIRED | JSON_NULLABLE},
		{"hostname", spec_decode_word, offsetof(struct runtime_spec, hostname),
			JSON_NULLABLE},
		{"domainname", spec_decode_word, offsetof(struct runtime_spec, domainname),
			JSON_NULLABLE},
		{"mounts", spec_decode_mounts, 0, JSON_NULLABLE},
		{"hooks", spec_decode_hooks, 0, JSON_NULLABLE},
		{"annotations", spec_decode_pairs, offsetof(struct runtime_spec, annotations),
			JSON_NULLABLE},
		{"linux", spec_decode_linux, 0, JSON_NULLABLE},
		{"solaris", spec_decode_refuse},
		{"windows", spec_decode_refuse},
		{"vm", spec_decode_refuse},
		{"zos", spec_decode_refuse},
		{"freebsd", spec_decode_refuse},
		{0},
	};
	struct runtime_spec out = {0};
	struct spec_decoding decoding = {.spec = &out};
	struct json_decoder d = {.arena = a, .document = name, .context = &decoding};

	const struct json *root = parse_document(a, data, size, name, err);
	if (!root || json_decode_object(&d, root, fields, false, &out, err) < 0)
		return -1;
	*spec = out;
	return 0;
}

int runtime_process_parse(struct arena *a, const char *data, size_t size, const char *name,
	struct runtime_process *process, struct json_strings *warnings, struct error *err)
{
	struct runtime_spec out = {0};
	struct spec_decoding decoding = {.spec = &out};
	struct json_decoder d = {.arena = a, .document = name, .context = &decoding};
	const struct json *root = parse_document(a, data, size, name, err);
	if (!root || spec_decode_process(&d, root, &out, err) < 0)
		return -1;
	*process = out.process;
	*warnings = out.warnings;
	return 0;
}
