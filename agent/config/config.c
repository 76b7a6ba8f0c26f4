// SPDX-License-Identifier: Apache-2.0
#include "agent/config/config.h"

#include "agent/config/labels.h"
#include "base/file.h"
#include "base/json_decode.h"
#include "base/text.h"
#include "base/time.h"
#include "base/yaml.h"

#include <stdlib.h>
#include <unistd.h>

enum { CONFIG_BYTES_MAX = 1024 * 1024, GRACE_SECONDS_MAX = 86400 };

static const char default_path[] = "/etc/stoker/agent.yaml";

static int decode_format(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const char *const names[] = {"auto", "erofs", "directory"};
	enum config_layer_format *format = target;
	for (size_t i = 0; value->type == JSON_STRING && i < array_size(names); i++) {
		if (streq(value->string, names[i])) {
			*format = (enum config_layer_format)i;
			return 0;
		}
	}
	return json_decode_fail(d, value, err, ERROR_INVALID, "must be auto, erofs or directory");
}

static int decode_backing(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	const char *name = *(const char **)target;
	if (streq(name, "auto") || streq(name, "file") || streq(name, "loop"))
		return 0;
	return json_decode_fail(d, value, err, ERROR_INVALID, "must be auto, file or loop");
}

static int decode_percent(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type != JSON_INTEGER || value->integer < 0 || value->integer > 99)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be a percentage from 0 to 99");
	*(unsigned *)target = (unsigned)value->integer;
	return 0;
}

static int decode_layers(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"format", decode_format, offsetof(struct config, layer_format), 0},
		{"backing", decode_backing, offsetof(struct config, layer_backing), 0},
		{"max_size", policy_decode_size, offsetof(struct config, layer_limits.bytes), 0},
		{"max_entries", json_decode_uint64, offsetof(struct config, layer_limits.entries),
			0},
		{0},
	};
	return json_decode_object(d, value, fields, true, target, err);
}

static int decode_store(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"high", policy_decode_size, offsetof(struct config, store_limits.high_bytes), 0},
		{"low", policy_decode_size, offsetof(struct config, store_limits.low_bytes), 0},
		{"keep_free", policy_decode_size,
			offsetof(struct config, store_limits.keep_free_bytes), 0},
		{"keep_free_inodes", decode_percent,
			offsetof(struct config, store_limits.keep_free_inodes_percent), 0},
		{0},
	};
	const struct config *c = target;
	if (json_decode_object(d, value, fields, true, target, err) < 0)
		return -1;
	if (c->store_limits.low_bytes > c->store_limits.high_bytes)
		return json_decode_fail(d, value, err, ERROR_INVALID, "low must not be above high");
	return 0;
}

static int decode_grace(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type != JSON_INTEGER || value->integer < 0 || value->integer > GRACE_SECONDS_MAX)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a number of seconds, at most %d", GRACE_SECONDS_MAX);
	*(uint64_t *)target = (uint64_t)value->integer * 1000;
	return 0;
}

static int decode_age(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	int64_t seconds;
	if (value->type != JSON_STRING || !parse_duration(value->string, &seconds))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a time such as 12h or 30d: digits with s, m, h or d behind");
	*(uint64_t *)target = (uint64_t)seconds * 1000;
	return 0;
}

static int decode_runs(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"keep", json_decode_uint64, offsetof(struct config, runs.keep), JSON_NULLABLE},
		{"keep_for", decode_age, offsetof(struct config, runs.keep_for_ms), JSON_NULLABLE},
		{0},
	};
	return json_decode_object(d, value, fields, true, target, err);
}

static int decode_logs(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"max_size", policy_decode_size, offsetof(struct config, log_max_size), 0},
		{"keep_free", policy_decode_size, offsetof(struct config, log_keep_free), 0},
		{0},
	};
	return json_decode_object(d, value, fields, true, target, err);
}

// The groups below decode into the whole configuration, so their offset is 0.
static const struct json_field config_fields[] = {
	{"state_dir", policy_decode_folder, offsetof(struct config, state_dir), 0},
	{"run_dir", policy_decode_folder, offsetof(struct config, run_dir), 0},
	{"default_image", json_decode_string, offsetof(struct config, default_image),
		JSON_NULLABLE},
	{"layers", decode_layers, 0, JSON_NULLABLE},
	{"store", decode_store, 0, JSON_NULLABLE},
	{"stop_grace_seconds", decode_grace, offsetof(struct config, stop_grace_ms), JSON_NULLABLE},
	{"sandbox", policy_decode_sandbox, offsetof(struct config, policy), JSON_NULLABLE},
	{"job_defaults", policy_decode_job_defaults, offsetof(struct config, policy),
		JSON_NULLABLE},
	{"runs", decode_runs, 0, JSON_NULLABLE},
	{"devices", policy_decode_devices, offsetof(struct config, policy), JSON_NULLABLE},
	{"logs", decode_logs, 0, JSON_NULLABLE},
	{"environments", environment_policy_decode, offsetof(struct config, environments),
		JSON_NULLABLE},
	{"data", data_policy_decode, offsetof(struct config, data), JSON_NULLABLE},
	{"outputs", outputs_policy_decode, offsetof(struct config, outputs), JSON_NULLABLE},
	{"labels", labels_decode, offsetof(struct config, labels), JSON_NULLABLE},
	{"registries", registry_config_decode, offsetof(struct config, registries), JSON_NULLABLE},
	{0},
};

static void set_defaults(struct config *c)
{
	*c = (struct config){
		.arena = c->arena,
		.layer_backing = "auto",
		.layer_limits = layer_limits_default,
		.store_limits = store_limits_default,
		.log_max_size = 10ULL << 30,
		.log_keep_free = 64ULL << 20,
		.registries = registry_config_default,
		.stop_grace_ms = 30 * 1000,
		.policy = job_policy_default,
		.environments = environment_policy_default,
		.data = data_policy_default,
		.outputs = outputs_policy_default,
	};
}

int config_parse(
	struct config *c, const char *data, size_t size, const char *name, struct error *err)
{
	set_defaults(c);
	const struct json *tree =
		yaml_parse(&c->arena, data, size, name, &json_limits_default, err);
	if (!tree)
		return -1;
	if (tree->type == JSON_NULL) // an empty file
		return 0;
	struct json_decoder d = {.arena = &c->arena, .document = name, .positions = true};
	return json_decode_object(&d, tree, config_fields, true, c, err);
}

static const char *user_folder(struct config *c, const char *variable, const char *below_home)
{
	const char *base = getenv(variable);
	if (base && *base == '/')
		return arena_printf(&c->arena, "%s/stoker", base);
	const char *home = getenv("HOME");
	return arena_printf(
		&c->arena, "%s/%s/stoker", home && *home == '/' ? home : "/tmp", below_home);
}

static int choose_folder(struct config *c, const char *option, const char *variable,
	const char *in_file, const char *fallback, const char **folder, struct error *err)
{
	const char *chosen = option ? option : getenv(variable);
	if (!chosen || !*chosen)
		chosen = in_file ? in_file : fallback;
	cleanup_free char *absolute = path_absolute(chosen, err);
	if (!absolute)
		return -1;
	*folder = arena_strdup(&c->arena, absolute);
	return 0;
}

static int read_file(struct config *c, const char *path, bool named, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	if (file_read(AT_FDCWD, path, CONFIG_BYTES_MAX, &b, err) < 0) {
		if (!named && err->kind == ERROR_NOT_FOUND) {
			error_clear(err);
			return 0;
		}
		return error_context(err, "configuration");
	}
	if (config_parse(c, b.data ? b.data : "", b.size, path, err) < 0)
		return -1;
	c->path = arena_strdup(&c->arena, path);
	return 0;
}

int config_load(struct config *c, const struct config_overrides *o, struct error *err)
{
	const char *named = o->config ? o->config : getenv("STOKER_CONFIG");
	if (named && !*named)
		named = NULL;
	set_defaults(c);
	if (read_file(c, named ? named : default_path, named != NULL, err) < 0)
		return -1;
	bool root = geteuid() == 0;
	if (choose_folder(c, o->state_dir, "STOKER_STATE_DIR", c->state_dir,
		    root ? "/var/lib/stoker" : user_folder(c, "XDG_DATA_HOME", ".local/share"),
		    &c->state_dir, err) < 0)
		return -1;
	return choose_folder(c, o->run_dir, "STOKER_RUN_DIR", c->run_dir,
		root ? "/run/stoker" : user_folder(c, "XDG_RUNTIME_DIR", ".cache/run"), &c->run_dir,
		err);
}

void config_release(struct config *c)
{
	arena_release(&c->arena);
}
