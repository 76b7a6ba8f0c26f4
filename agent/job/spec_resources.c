// SPDX-License-Identifier: Apache-2.0
//
// What a job asks of the node: resources, network, time; and its secrets.
#include "agent/job/spec_decode.h"
#include "base/file.h"
#include "base/text.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>

int job_decode_count(struct json_decoder *d, const struct json *value, uint64_t least,
	uint64_t most, uint64_t *target, struct error *err)
{
	if (value->type != JSON_INTEGER || value->integer < (int64_t)least ||
		(uint64_t)value->integer > most)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a whole number from %llu to %llu", (unsigned long long)least,
			(unsigned long long)most);
	*target = (uint64_t)value->integer;
	return 0;
}

int job_decode_seconds(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return job_decode_count(d, value, 1, JOB_SECONDS_MAX, target, err);
}

static int decode_gpus(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type == JSON_INTEGER && value->integer == 0) {
		*(uint64_t *)target = 0;
		return 0;
	}
	return job_decode_count(d, value, 1, JOB_DEVICES_MAX, target, err);
}

bool job_device_check(const char *name)
{
	const char *slash = strchr(name, '/'), *equals = slash ? strchr(slash, '=') : NULL;
	return equals && slash > name && equals > slash + 1 && equals[1];
}

static int decode_device(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	if (!job_device_check(value->string))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be the name of a CDI device: vendor/class=name");
	return 0;
}

static int decode_devices(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_strings *devices = target;
	void *items;
	size_t count;
	if (json_decode_array(d, value, decode_device, sizeof(const char *), JOB_DEVICES_MAX,
		    &items, &count, err) < 0)
		return -1;
	devices->items = arena_array(d->arena, const char *, count + 1);
	devices->count = count;
	if (count)
		memcpy(devices->items, items, count * sizeof(*devices->items));
	return 0;
}

#define AT(member) offsetof(struct job_resources, member)
const struct json_field job_resources_fields[] = {
	{"cpus", policy_decode_cpus, AT(cpus), JSON_NULLABLE},
	{"memory", job_decode_size, AT(memory), JSON_NULLABLE},
	{"memory_swap", job_decode_size, AT(memory_swap), JSON_NULLABLE},
	{"disk", job_decode_size, AT(disk), JSON_NULLABLE},
	{"pids", policy_decode_pids, AT(pids), JSON_NULLABLE},
	{"gpus", decode_gpus, AT(gpus), JSON_NULLABLE},
	{"devices", decode_devices, AT(devices), JSON_NULLABLE},
	{0},
};
#undef AT

int job_decode_resources(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return json_decode_object(d, value, job_resources_fields, true, target, err);
}

// ---- secrets

static int decode_variable(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (job_decode_nonempty(d, value, target, err) < 0)
		return -1;
	if (strchr(value->string, '='))
		return json_decode_fail(d, value, err, ERROR_INVALID, "must not hold a '='");
	return 0;
}

// A value that stands in the job file would be kept with the run and be read by whoever reads that.
static int refuse_value(struct json_decoder *d, const struct json *value, struct error *err)
{
	return json_decode_fail(d, value, err, ERROR_INVALID,
		"a secret does not stand in the job file, which is kept; name a file: or an env: "
		"variable");
}

const struct json_field job_secret_fields[] = {
	{"file", job_decode_nonempty, offsetof(struct job_secret, file), 0},
	{"env", decode_variable, offsetof(struct job_secret, from), 0},
	{"variable", decode_variable, offsetof(struct job_secret, variable), JSON_NULLABLE},
	{0},
};

static int decode_secret(
	struct json_decoder *d, const struct json *value, struct job_secret *s, struct error *err)
{
	if (json_get(value, "value"))
		return refuse_value(d, json_get(value, "value"), err);
	if (json_decode_object(d, value, job_secret_fields, true, s, err) < 0)
		return -1;
	if (!s->file == !s->from)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must have one of file: and env:");
	return 0;
}

int job_decode_secrets(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct job_spec *s = target;
	if (value->type != JSON_OBJECT)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a mapping (NAME: {file: PATH} or {env: VARIABLE})");
	if (value->count > JOB_SECRETS_MAX)
		return json_decode_fail(d, value, err, ERROR_LIMIT,
			"%zu secrets, at most %d are allowed", value->count, JOB_SECRETS_MAX);
	s->secrets = arena_array(d->arena, struct job_secret, value->count);
	json_object_each (member, value) {
		struct job_secret *secret = &s->secrets[s->secret_count++];
		const struct json name = {.type = JSON_STRING,
			.line = member->line,
			.column = member->column,
			.string = member->key,
			.length = strlen(member->key)};
		size_t entered = json_decode_enter_key(d, member->key);
		if (job_decode_name(d, &name, &secret->name, err) < 0 ||
			decode_secret(d, &member->value, secret, err) < 0)
			return -1;
		json_decode_leave(d, entered);
	}
	return 0;
}

static int read_secret(struct job_spec *s, struct job_secret *secret, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	if (secret->from) {
		secret->value = getenv(secret->from);
		if (!secret->value)
			return error_set(
				err, ERROR_NOT_FOUND, "the variable %s is not set", secret->from);
		secret->size = strlen(secret->value);
	} else {
		if (file_read(AT_FDCWD, secret->file, JOB_SECRETS_BYTES_MAX, &b, err) < 0)
			return -1;
		secret->value = arena_strndup(&s->arena, b.data ? b.data : "", b.size);
		secret->size = b.size;
		if (b.data)
			explicit_bzero(b.data, b.size);
	}
	if (secret->size == 0)
		return error_set(err, ERROR_INVALID, "is empty");
	if (secret->size > JOB_SECRETS_BYTES_MAX)
		return error_set(
			err, ERROR_LIMIT, "is longer than %d bytes", JOB_SECRETS_BYTES_MAX);
	if (secret->variable && memchr(secret->value, '\0', secret->size))
		return error_set(err, ERROR_INVALID, "has a NUL byte, which no variable holds");
	return 0;
}

int job_secrets_read(struct job_spec *s, struct error *err)
{
	size_t bytes = 0;
	for (size_t i = 0; i < s->secret_count; i++) {
		if (read_secret(s, &s->secrets[i], err) < 0)
			return error_context(err, "secret %s", s->secrets[i].name);
		bytes += s->secrets[i].size;
	}
	if (bytes > JOB_SECRETS_BYTES_MAX)
		return error_set(err, ERROR_LIMIT,
			"the secrets have %zu bytes; at most %d are allowed", bytes,
			JOB_SECRETS_BYTES_MAX);
	return 0;
}
