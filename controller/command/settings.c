// SPDX-License-Identifier: Apache-2.0
#include "controller/command/settings.h"

#include "base/file.h"
#include "base/json_decode.h"
#include "base/json_write.h"
#include "base/text.h"
#include "base/time.h"
#include "base/yaml.h"

#include <unistd.h>

enum { SETTINGS_BYTES_MAX = 1024 * 1024 };
static const char default_data[] = "/var/lib/stoker-controller";

static int decode_time(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	int64_t seconds;
	if (value->type != JSON_STRING || !parse_duration(value->string, &seconds) || seconds < 1)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a time such as 60s or 5m: digits with s, m, h or d behind");
	*(int64_t *)target = seconds * 1000;
	return 0;
}

static int decode_size(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type == JSON_INTEGER && value->integer >= 0) {
		*(uint64_t *)target = (uint64_t)value->integer;
		return 0;
	}
	if (value->type == JSON_STRING && parse_size(value->string, target))
		return 0;
	return json_decode_fail(d, value, err, ERROR_INVALID, "must be a size such as 300m or 2g");
}

static int decode_tls(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"certificate", json_decode_string, offsetof(struct settings, certificate),
			JSON_REQUIRED},
		{"key", json_decode_string, offsetof(struct settings, key), JSON_REQUIRED},
		{0},
	};
	return json_decode_object(d, value, fields, true, target, err);
}

static int decode_limits(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"lease", decode_time, offsetof(struct settings, limits.lease_ms), 0},
		{"max_node_losses", json_decode_uint64,
			offsetof(struct settings, limits.node_losses), 0},
		{"snapshot_size", decode_size, offsetof(struct settings, limits.snapshot_bytes), 0},
		{"run_size", decode_size, offsetof(struct settings, limits.run_bytes), 0},
		{"run_files", json_decode_uint64, offsetof(struct settings, limits.run_files), 0},
		{"queue", json_decode_uint64, offsetof(struct settings, limits.queue_max), 0},
		{"connections", json_decode_uint64, offsetof(struct settings, connections), 0},
		{"connections_per_address", json_decode_uint64,
			offsetof(struct settings, connections_per_address), 0},
		{"idle", decode_time, offsetof(struct settings, idle_ms), 0},
		{"user_rate", json_decode_uint64, offsetof(struct settings, user_rate), 0},
		{"node_rate", json_decode_uint64, offsetof(struct settings, node_rate), 0},
		{0},
	};
	enum { CONNECTIONS_MAX = 100000 };
	const struct settings *s = target;
	if (json_decode_object(d, value, fields, true, target, err) < 0)
		return -1;
	if (s->connections < 1 || s->connections > CONNECTIONS_MAX ||
		s->connections_per_address > CONNECTIONS_MAX)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"connections must be from 1 to %d", CONNECTIONS_MAX);
	return 0;
}

// tls and limits decode into the whole, so their offset is 0.
static const struct json_field fields[] = {
	{"database", json_decode_string, offsetof(struct settings, database), JSON_NULLABLE},
	{"files", json_decode_string, offsetof(struct settings, files), JSON_NULLABLE},
	{"tls", decode_tls, 0, JSON_NULLABLE},
	{"allow_plain_http", json_decode_bool, offsetof(struct settings, allow_plain_http), 0},
	{"limits", decode_limits, 0, JSON_NULLABLE},
	{0},
};

static void set_defaults(struct settings *s)
{
	*s = (struct settings){
		.arena = s->arena,
		.limits = controller_limits_default,
		.connections = 4096,
		.idle_ms = 20 * 1000,
		.user_rate = 50,
		.node_rate = 500,
	};
}

int settings_parse(
	struct settings *s, const char *data, size_t size, const char *name, struct error *err)
{
	set_defaults(s);
	const struct json *tree =
		yaml_parse(&s->arena, data, size, name, &json_limits_default, err);
	if (!tree)
		return -1;
	if (tree->type == JSON_NULL) // an empty file
		return 0;
	struct json_decoder d = {.arena = &s->arena, .document = name, .positions = true};
	return json_decode_object(&d, tree, fields, true, s, err);
}

static const char *data_folder(struct arena *a, const char *option, struct error *err)
{
	cleanup_free char *absolute = path_absolute(option ? option : default_data, err);
	return absolute ? arena_strdup(a, absolute) : NULL;
}

static const char *choose(const char *option, const char *in_file, const char *fallback)
{
	return option ? option : in_file ? in_file : fallback;
}

static int read_file(struct settings *s, const char *data, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	const char *path = arena_printf(&s->arena, "%s/controller.yaml", data);
	if (file_read(AT_FDCWD, path, SETTINGS_BYTES_MAX, &b, err) < 0) {
		if (err->kind != ERROR_NOT_FOUND)
			return -1;
		error_clear(err);
	}
	return settings_parse(s, b.data ? b.data : "", b.size, path, err);
}

int settings_load(struct settings *s, const struct settings_overrides *o, struct error *err)
{
	const char *data = data_folder(&s->arena, o->data, err);
	if (!data || read_file(s, data, err) < 0)
		return -1;
	s->data = data;
	s->database =
		choose(o->database, s->database, arena_printf(&s->arena, "%s/controller.db", data));
	s->files = choose(o->files, s->files, arena_printf(&s->arena, "%s/files", data));
	s->certificate = choose(o->certificate, s->certificate, NULL);
	s->key = choose(o->key, s->key, NULL);
	s->allow_plain_http |= o->allow_plain_http;
	return 0;
}

static void print_place(struct buffer *b, const char *key, const char *value, const char *example)
{
	if (!value) {
		buffer_printf(b, "# %s: %s\n", key, example);
		return;
	}
	buffer_printf(b, "%s: \"", key);
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			buffer_putc(b, '\\');
		buffer_putc(b, *value);
	}
	buffer_puts(b, "\"\n");
}

int settings_write(const struct settings_overrides *o, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer b = {0};
	const char *data = data_folder(&a, o->data, err);
	if (!data || directory_make(AT_FDCWD, data, 0700, err) < 0)
		return -1;
	const char *path = arena_printf(&a, "%s/controller.yaml", data);
	if (access(path, F_OK) == 0)
		return 0;
	buffer_puts(&b, "# Settings of stoker-controller(1). What is not here has its default.\n");
	print_place(&b, "database", o->database, "postgresql://user@host/name");
	print_place(&b, "files", o->files, "/srv/stoker-files");
	buffer_puts(&b, "# tls: {certificate: /path/to/chain.pem, key: /path/to/key.pem}\n"
			"# limits: {lease: 60s, snapshot_size: 300m, run_files: 1000000}\n");
	// 0600: the database's address may hold a password.
	return file_write_atomic(AT_FDCWD, path, b.data, b.size, 0600, err);
}

void settings_release(struct settings *s)
{
	arena_release(&s->arena);
}
