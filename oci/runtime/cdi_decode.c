// SPDX-License-Identifier: Apache-2.0
//
// One document of the Container Device Interface.
#include "base/text.h"
#include "base/yaml.h"
#include "oci/runtime/cdi_internal.h"

#include <limits.h>

static int decode_version(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const char *const known[] = {
		"0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"};
	(void)target;
	for (size_t i = 0; value->type == JSON_STRING && i < array_size(known); i++)
		if (streq(value->string, known[i]))
			return 0;
	return json_decode_fail(d, value, err, ERROR_INVALID,
		"must be one of the versions \"%s\" to \"%s\"; others are not supported", known[0],
		known[array_size(known) - 1]);
}

static int decode_kind(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	if (cdi_kind_valid(value->string, value->length))
		return 0;
	return json_decode_fail(d, value, err, ERROR_INVALID,
		"must be vendor/class, such as \"vendor.com/gpu\": letters, digits, '_', '-' and "
		"'.'");
}

static int decode_unit(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	if (cdi_unit_valid(value->string))
		return 0;
	return json_decode_fail(d, value, err, ERROR_INVALID,
		"must be letters, digits, '_', '-', '.' and ':', a letter or digit at both ends");
}

static int decode_path(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	if (*value->string != '/' || value->length >= PATH_MAX)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be an absolute path");
	return 0;
}

static int decode_env(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	const struct json_strings *env = target;
	if (json_decode_strings(d, value, target, err) < 0)
		return -1;
	if (env->count > CDI_ENV_MAX)
		return json_decode_fail(d, value, err, ERROR_LIMIT,
			"%zu variables, at most %d are allowed", env->count, CDI_ENV_MAX);
	for (size_t i = 0; i < env->count; i++) {
		const char *equals = strchr(env->items[i], '=');
		if (equals && equals > env->items[i])
			continue;
		json_decode_enter_index(d, i);
		return json_decode_fail(
			d, &value->members[i].value, err, ERROR_INVALID, "must be NAME=value");
	}
	return 0;
}

static int decode_type(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type == JSON_STRING && value->length <= 1 && strchr("cbup", *value->string)) {
		*(char *)target = *value->string;
		return 0;
	}
	return json_decode_fail(d, value, err, ERROR_INVALID, "must be c, b, u or p");
}

// Linux has 12 bits of major and 20 of minor numbers; -1, "any" in a device rule, is none.
static int decode_number(struct json_decoder *d, const struct json *value, int64_t most,
	int64_t *number, bool *given, struct error *err)
{
	if (value->type != JSON_INTEGER || value->integer < 0 || value->integer > most)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a number from 0 to %lld", (long long)most);
	*number = value->integer;
	*given = true;
	return 0;
}

static int decode_major(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct cdi_node *n = target;
	return decode_number(d, value, 0xfff, &n->major, &n->has_major, err);
}

static int decode_minor(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct cdi_node *n = target;
	return decode_number(d, value, 0xfffff, &n->minor, &n->has_minor, err);
}

static int decode_id(struct json_decoder *d, const struct json *value, uint32_t *id, bool *given,
	struct error *err)
{
	int64_t number = 0;
	if (decode_number(d, value, UINT32_MAX - 1, &number, given, err) < 0)
		return -1;
	*id = (uint32_t)number;
	return 0;
}

static int decode_uid(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct cdi_node *n = target;
	return decode_id(d, value, &n->uid, &n->has_uid, err);
}

static int decode_gid(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct cdi_node *n = target;
	return decode_id(d, value, &n->gid, &n->has_gid, err);
}

// 438, or as people write it in YAML, 0666, which is a string there.
static int decode_mode(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	uint64_t mode = 01000;
	if (value->type == JSON_INTEGER && value->integer >= 0)
		mode = (uint64_t)value->integer;
	if (value->type == JSON_STRING && *value->string == '0' && value->length <= 5 &&
		value->string[strspn(value->string, "01234567")] == '\0') {
		mode = 0;
		for (const char *s = value->string; *s; s++)
			mode = mode * 8 + (uint64_t)(*s - '0');
	}
	// The kind of file may stand in the bits above; it has a member of its own.
	mode &= ~(uint64_t)0170000;
	if (mode > 0777)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be permission bits, at most 511 (0777 in octal)");
	*(mode_t *)target = (mode_t)mode;
	return 0;
}

static int decode_permissions(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct cdi_node *n = target;
	const char *s = value->type == JSON_STRING ? value->string : "?";
	if (!*s) // as if not given
		return 0;
	bool none = streq(s, "none");
	if (!none && s[strspn(s, "rwm")])
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be some of r, w and m, or none");
	n->read = !none && strchr(s, 'r');
	n->write = !none && strchr(s, 'w');
	n->mknod = !none && strchr(s, 'm');
	return 0;
}

static int decode_node(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"path", decode_path, offsetof(struct cdi_node, path), JSON_REQUIRED},
		{"hostPath", decode_path, offsetof(struct cdi_node, host_path), JSON_NULLABLE},
		{"type", decode_type, offsetof(struct cdi_node, type), JSON_NULLABLE},
		{"major", decode_major, 0, JSON_NULLABLE},
		{"minor", decode_minor, 0, JSON_NULLABLE},
		{"fileMode", decode_mode, offsetof(struct cdi_node, mode), JSON_NULLABLE},
		{"permissions", decode_permissions, 0, JSON_NULLABLE},
		{"uid", decode_uid, 0, JSON_NULLABLE},
		{"gid", decode_gid, 0, JSON_NULLABLE},
		{0},
	};
	struct cdi_node *n = target;
	*n = (struct cdi_node){.read = true, .write = true, .mknod = true};
	if (json_decode_object(d, value, fields, true, n, err) < 0)
		return -1;
	if (!n->host_path)
		n->host_path = n->path;
	return 0;
}

static int decode_nodes(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct cdi_edits *edits = target;
	return json_decode_array(d, value, decode_node, sizeof(*edits->nodes), CDI_NODES_MAX,
		(void **)&edits->nodes, &edits->node_count, err);
}

static bool has_option(const struct runtime_mount *m, const char *option)
{
	for (size_t i = 0; i < m->options.count; i++)
		if (streq(m->options.items[i], option))
			return true;
	return false;
}

// The specification's mounts are binds unless a type says otherwise. Whoever leaves the option out
// means the whole tree.
static void complete_mount(struct arena *a, struct runtime_mount *m)
{
	bool bind = has_option(m, "bind") || has_option(m, "rbind");
	if (!bind && *m->type && !streq(m->type, "bind") && !streq(m->type, "none"))
		return;
	m->type = "bind";
	if (bind)
		return;
	const char **items = arena_array(a, const char *, m->options.count + 2);
	items[0] = "rbind";
	if (m->options.count)
		memcpy(items + 1, m->options.items, m->options.count * sizeof(*items));
	m->options = (struct json_strings){.items = items, .count = m->options.count + 1};
}

static int decode_mount(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"hostPath", json_decode_string, offsetof(struct runtime_mount, source),
			JSON_REQUIRED},
		{"containerPath", decode_path, offsetof(struct runtime_mount, destination),
			JSON_REQUIRED},
		{"options", json_decode_strings, offsetof(struct runtime_mount, options),
			JSON_NULLABLE},
		{"type", json_decode_string, offsetof(struct runtime_mount, type), JSON_NULLABLE},
		{0},
	};
	struct runtime_mount *m = target;
	*m = (struct runtime_mount){.type = ""};
	if (json_decode_object(d, value, fields, true, m, err) < 0)
		return -1;
	complete_mount(d->arena, m);
	if (streq(m->type, "bind") && *m->source != '/') {
		json_decode_enter_key(d, "hostPath");
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be an absolute path");
	}
	return 0;
}

static int decode_mounts(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct cdi_edits *edits = target;
	return json_decode_array(d, value, decode_mount, sizeof(*edits->mounts), CDI_MOUNTS_MAX,
		(void **)&edits->mounts, &edits->mount_count, err);
}

static int decode_hook_point(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const char *const names[RUNTIME_HOOK_POINTS] = {"prestart", "createRuntime",
		"createContainer", "startContainer", "poststart", "poststop"};
	for (int i = 0; value->type == JSON_STRING && i < RUNTIME_HOOK_POINTS; i++) {
		if (streq(value->string, names[i])) {
			*(enum runtime_hook_point *)target = (enum runtime_hook_point)i;
			return 0;
		}
	}
	return json_decode_fail(d, value, err, ERROR_INVALID,
		"must be prestart, createRuntime, createContainer, startContainer, poststart or "
		"poststop");
}

static int decode_timeout(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type != JSON_INTEGER || value->integer < 1 || value->integer > INT_MAX)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be a number of seconds over 0");
	*(int *)target = (int)value->integer;
	return 0;
}

static int decode_hook(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"hookName", decode_hook_point, offsetof(struct cdi_hook, point), JSON_REQUIRED},
		{"path", decode_path, offsetof(struct cdi_hook, hook.path), JSON_REQUIRED},
		{"args", json_decode_strings, offsetof(struct cdi_hook, hook.args), JSON_NULLABLE},
		{"env", decode_env, offsetof(struct cdi_hook, hook.env), JSON_NULLABLE},
		{"timeout", decode_timeout, offsetof(struct cdi_hook, hook.timeout), JSON_NULLABLE},
		{0},
	};
	return json_decode_object(d, value, fields, true, target, err);
}

static int decode_hooks(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct cdi_edits *edits = target;
	return json_decode_array(d, value, decode_hook, sizeof(*edits->hooks), CDI_HOOKS_MAX,
		(void **)&edits->hooks, &edits->hook_count, err);
}

static int decode_group(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	bool given;
	return decode_id(d, value, target, &given, err);
}

static int decode_groups(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct cdi_edits *edits = target;
	return json_decode_array(d, value, decode_group, sizeof(*edits->groups), CDI_GROUPS_MAX,
		(void **)&edits->groups, &edits->group_count, err);
}

static int decode_unsupported(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	(void)target;
	return json_decode_fail(d, value, err, ERROR_INVALID, "not supported");
}

static int decode_edits(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"env", decode_env, offsetof(struct cdi_edits, env), JSON_NULLABLE},
		{"deviceNodes", decode_nodes, 0, JSON_NULLABLE},
		{"mounts", decode_mounts, 0, JSON_NULLABLE},
		{"hooks", decode_hooks, 0, JSON_NULLABLE},
		{"additionalGids", decode_groups, 0, JSON_NULLABLE},
		{"intelRdt", decode_unsupported, 0, JSON_NULLABLE},
		{"netDevices", decode_unsupported, 0, JSON_NULLABLE},
		{0},
	};
	return json_decode_object(d, value, fields, true, target, err);
}

static int decode_device(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"name", decode_unit, offsetof(struct cdi_device, unit), JSON_REQUIRED},
		{"annotations", json_decode_pairs, offsetof(struct cdi_device, annotations),
			JSON_NULLABLE},
		{"containerEdits", decode_edits, offsetof(struct cdi_device, edits), JSON_REQUIRED},
		{0},
	};
	return json_decode_object(d, value, fields, true, target, err);
}

// Two devices of one name: found by sorting copies would lose the place, and documents are small
// enough (CDI_DEVICES_MAX) for pairs of short names.
static int check_unique(struct json_decoder *d, const struct json *value,
	const struct cdi_document *document, struct error *err)
{
	for (size_t i = 0; i < document->count; i++) {
		for (size_t j = 0; j < i; j++) {
			if (!streq(document->devices[i].unit, document->devices[j].unit))
				continue;
			json_decode_enter_index(d, i);
			return json_decode_fail(d, &value->members[i].value, err, ERROR_INVALID,
				"a second device named \"%s\"", document->devices[i].unit);
		}
	}
	return 0;
}

static int decode_devices(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct cdi_document *document = target;
	if (json_decode_array(d, value, decode_device, sizeof(*document->devices), CDI_DEVICES_MAX,
		    (void **)&document->devices, &document->count, err) < 0)
		return -1;
	if (!document->count)
		return json_decode_fail(d, value, err, ERROR_INVALID, "no device is described");
	return check_unique(d, value, document, err);
}

int cdi_decode(struct arena *a, const char *data, size_t size, const char *name,
	struct cdi_document *document, struct error *err)
{
	static const struct json_field fields[] = {
		{"cdiVersion", decode_version, 0, JSON_REQUIRED},
		{"kind", decode_kind, offsetof(struct cdi_document, file.kind), JSON_REQUIRED},
		{"annotations", json_decode_pairs, offsetof(struct cdi_document, file.annotations),
			JSON_NULLABLE},
		{"devices", decode_devices, 0, JSON_REQUIRED},
		{"containerEdits", decode_edits, offsetof(struct cdi_document, file.edits),
			JSON_NULLABLE},
		{0},
	};
	static const struct json_limits limits = {
		.bytes = CDI_FILE_BYTES_MAX, .depth = 16, .nodes = 200000};
	const struct json *tree = ends_with(name, ".json")
					  ? json_parse(a, data, size, name, &limits, err)
					  : yaml_parse(a, data, size, name, &limits, err);
	if (!tree)
		return -1;
	struct json_decoder d = {.arena = a, .document = name, .positions = true};
	*document = (struct cdi_document){.file.path = arena_strdup(a, name)};
	if (json_decode_object(&d, tree, fields, true, document, err) < 0)
		return -1;
	for (size_t i = 0; i < document->count; i++) {
		struct cdi_device *device = &document->devices[i];
		device->kind = document->file.kind;
		device->name = arena_printf(a, "%s=%s", device->kind, device->unit);
	}
	return 0;
}
