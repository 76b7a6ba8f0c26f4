// SPDX-License-Identifier: Apache-2.0
#include "agent/data/source.h"

#include "base/text.h"

#include <ctype.h>
#include <stddef.h>

enum { NAME_LENGTH_MAX = 64 };

static const char *const kinds[DATA_KINDS] = {
	"bind", "http", "oci", "fuse", "nfs", "cifs", "fsimage", "inline"};
static const char *const modes[DATA_MODES] = {"ro_mount", "rw_mount", "download", "direct"};

const char *data_kind_name(enum data_kind kind)
{
	return kinds[kind];
}

const char *data_mode_name(enum data_mode mode)
{
	return modes[mode];
}

int data_name_decode(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	const char *s = value->string;
	bool ok = *s && !isdigit((unsigned char)*s) && strlen(s) <= NAME_LENGTH_MAX;
	for (; ok && *s; s++)
		ok = isalnum((unsigned char)*s) || *s == '_';
	if (!ok)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be letters, digits and '_', no digit first, %d at most",
			NAME_LENGTH_MAX);
	return 0;
}

static int decode_kind(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type == JSON_STRING && streq(value->string, kinds[DATA_BIND])) {
		*(enum data_kind *)target = DATA_BIND;
		return 0;
	}
	return json_decode_fail(d, value, err, ERROR_INVALID,
		"must be bind; other kinds are not supported by this version");
}

static int decode_nonempty(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	return value->length ? 0
			     : json_decode_fail(d, value, err, ERROR_INVALID, "must not be empty");
}

static int decode_target(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	return *value->string == '/' ? 0
				     : json_decode_fail(d, value, err, ERROR_INVALID,
					       "must be an absolute path in the container");
}

// The older word for mode: rw_mount.
static int decode_read_only(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	bool read_only;
	if (json_decode_bool(d, value, &read_only, err) < 0)
		return -1;
	*(enum data_mode *)target = read_only ? DATA_RO_MOUNT : DATA_RW_MOUNT;
	return 0;
}

int data_source_decode(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"name", data_name_decode, offsetof(struct data_source, name), JSON_REQUIRED},
		{"kind", decode_kind, offsetof(struct data_source, kind), JSON_REQUIRED},
		{"path", decode_nonempty, offsetof(struct data_source, path), JSON_REQUIRED},
		{"target", decode_target, offsetof(struct data_source, target), JSON_NULLABLE},
		{"read_only", decode_read_only, offsetof(struct data_source, mode), 0},
		{0},
	};
	struct data_source *source = target;
	if (json_decode_object(d, value, fields, true, source, err) < 0)
		return -1;
	if (!source->target)
		source->target = arena_printf(d->arena, "/stoker/inputs/%s", source->name);
	return 0;
}
