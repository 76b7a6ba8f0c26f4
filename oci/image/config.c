// SPDX-License-Identifier: Apache-2.0
#include "oci/image/config.h"

#include "base/text.h"
#include "oci/image/decode.h"
#include "oci/image/manifest.h"

// struct oci_strings is the same shape, without JSON in the header.
static void take_strings(struct oci_strings *to, const struct json_strings *from)
{
	*to = (struct oci_strings){.items = from->items, .count = from->count};
}

static int decode_env(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_strings strings;

	if (json_decode_strings(d, value, &strings, err) < 0)
		return -1;
	for (size_t i = 0; i < strings.count; i++) {
		const char *equals = strchr(strings.items[i], '=');
		if (equals && equals > strings.items[i])
			continue;
		size_t entered = json_decode_enter_index(d, i);
		json_decode_fail(d, &value->members[i].value, err, ERROR_INVALID,
			"\"%.100s\" is not NAME=value", strings.items[i]);
		json_decode_leave(d, entered);
		return -1;
	}
	take_strings(target, &strings);
	return 0;
}

// Docker also takes one string for a list of one.
static int decode_arguments(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_strings strings;

	if (value->type == JSON_STRING) {
		const char **items = arena_array(d->arena, const char *, 2);
		items[0] = value->string;
		strings = (struct json_strings){.items = items, .count = 1};
	} else if (json_decode_strings(d, value, &strings, err) < 0) {
		return -1;
	}
	take_strings(target, &strings);
	return 0;
}

static const struct json_field runtime_fields[] = {
	{"Env", decode_env, offsetof(struct oci_config, env), JSON_NULLABLE},
	{"Entrypoint", decode_arguments, offsetof(struct oci_config, entrypoint), JSON_NULLABLE},
	{"Cmd", decode_arguments, offsetof(struct oci_config, cmd), JSON_NULLABLE},
	{"WorkingDir", json_decode_string, offsetof(struct oci_config, working_dir), JSON_NULLABLE},
	{"User", json_decode_string, offsetof(struct oci_config, user), JSON_NULLABLE},
	{"StopSignal", json_decode_string, offsetof(struct oci_config, stop_signal), JSON_NULLABLE},
	{NULL},
};

static int decode_runtime(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return json_decode_object(d, value, runtime_fields, false, target, err);
}

static int decode_rootfs_type(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	const char *type;

	(void)target; // there is one type, so nothing to keep
	if (json_decode_string(d, value, &type, err) < 0)
		return -1;
	if (!streq(type, "layers"))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"\"%.100s\" is unknown, only \"layers\" is supported", type);
	return 0;
}

static int decode_diff_ids(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct oci_config *c = target;
	void *items;

	if (json_decode_array(d, value, oci_decode_digest, sizeof(*c->diff_ids), OCI_LAYERS_MAX,
		    &items, &c->diff_id_count, err) < 0)
		return -1;
	c->diff_ids = items;
	return 0;
}

static const struct json_field rootfs_fields[] = {
	{"type", decode_rootfs_type, 0, JSON_REQUIRED},
	{"diff_ids", decode_diff_ids, 0, JSON_REQUIRED | JSON_NULLABLE},
	{NULL},
};

static int decode_rootfs(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return json_decode_object(d, value, rootfs_fields, false, target, err);
}

static const struct json_field config_fields[] = {
	{"os", oci_decode_platform_word, offsetof(struct oci_config, platform.os), JSON_NULLABLE},
	{"architecture", oci_decode_platform_word,
		offsetof(struct oci_config, platform.architecture), JSON_REQUIRED | JSON_NULLABLE},
	{"variant", oci_decode_platform_word, offsetof(struct oci_config, platform.variant),
		JSON_NULLABLE},
	{"created", json_decode_string, offsetof(struct oci_config, created), JSON_NULLABLE},
	{"config", decode_runtime, 0, JSON_NULLABLE},
	{"rootfs", decode_rootfs, 0, JSON_REQUIRED | JSON_NULLABLE},
	{NULL},
};

// What the document leaves out, and names in Go's words.
static void complete(struct arena *a, struct oci_config *c)
{
	static const char linux_os[] = "linux";
	struct oci_strings *lists[] = {&c->env, &c->entrypoint, &c->cmd};
	const char **words[] = {&c->working_dir, &c->user, &c->stop_signal, &c->created};

	// Docker wrote no "os" before there was a second one.
	if (!c->platform.os[0])
		memcpy(c->platform.os, linux_os, sizeof(linux_os));
	oci_platform_normalise(&c->platform);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		if (!lists[i]->items)
			lists[i]->items = arena_array(a, const char *, 1);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!*words[i])
			*words[i] = "";
	// Windows has its own absolute paths.
	if (c->working_dir[0] && c->working_dir[0] != '/' && !streq(c->platform.os, "windows"))
		c->working_dir = arena_printf(a, "/%s", c->working_dir);
}

int oci_config_parse(
	struct arena *a, const char *data, size_t size, struct oci_config *c, struct error *err)
{
	struct json_limits limits = json_limits_default;
	struct json_decoder d = {.arena = a, .document = "image configuration"};
	struct oci_config out = {0};

	limits.bytes = OCI_CONFIG_BYTES_MAX;
	const struct json *root = json_parse(a, data, size, d.document, &limits, err);
	if (!root)
		return -1;
	if (json_decode_object(&d, root, config_fields, false, &out, err) < 0)
		return -1;
	if (!out.platform.architecture[0])
		return error_set(err, ERROR_INVALID, "image configuration: architecture: empty");
	complete(a, &out);
	*c = out;
	return 0;
}
