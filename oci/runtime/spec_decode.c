// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/spec_decode.h"

#include "base/text.h"

static bool says_nothing(const struct json *value)
{
	switch (value->type) {
	case JSON_NULL:
		return true;
	case JSON_BOOL:
		return !value->boolean;
	case JSON_INTEGER:
		return value->integer == 0;
	case JSON_STRING:
		return value->length == 0;
	case JSON_ARRAY:
	case JSON_OBJECT:
		json_array_each (item, value)
			if (!says_nothing(&item->value))
				return false;
		return true;
	default:
		return false;
	}
}

int spec_decode_refuse(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	(void)target;
	if (says_nothing(value))
		return 0;
	return json_decode_fail(d, value, err, ERROR_INVALID, "not supported");
}

int spec_decode_u32(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	uint64_t number;
	if (json_decode_uint64(d, value, &number, err) < 0)
		return -1;
	if (number > UINT32_MAX)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be below 2^32");
	*(uint32_t *)target = (uint32_t)number;
	return 0;
}

int spec_decode_id(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (spec_decode_u32(d, value, target, err) < 0)
		return -1;
	// For the kernel it means "leave it as it is": root would stay root.
	if (*(uint32_t *)target == UINT32_MAX)
		return json_decode_fail(d, value, err, ERROR_INVALID, "4294967295 is no id");
	return 0;
}

int spec_decode_word(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	const char *word;
	if (json_decode_string(d, value, &word, err) < 0)
		return -1;
	*(const char **)target = *word ? word : NULL;
	return 0;
}

int spec_decode_absolute(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	if (*value->string != '/')
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be an absolute path");
	return 0;
}

static int check_count(
	struct json_decoder *d, const struct json *value, size_t most, struct error *err)
{
	bool list = value->type == JSON_ARRAY || value->type == JSON_OBJECT;
	if (list && value->count > most)
		return json_decode_fail(d, value, err, ERROR_LIMIT,
			"%zu elements, at most %zu are allowed", value->count, most);
	return 0;
}

int spec_decode_words(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (check_count(d, value, SPEC_ARGUMENTS_MAX, err) < 0)
		return -1;
	return json_decode_strings(d, value, target, err);
}

int spec_decode_paths(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_strings paths;
	if (check_count(d, value, SPEC_PATHS_MAX, err) < 0 ||
		json_decode_strings(d, value, &paths, err) < 0)
		return -1;
	for (size_t i = 0; i < paths.count; i++) {
		if (*paths.items[i] == '/')
			continue;
		size_t entered = json_decode_enter_index(d, i);
		json_decode_fail(d, value, err, ERROR_INVALID, "must be an absolute path");
		json_decode_leave(d, entered);
		return -1;
	}
	*(struct json_strings *)target = paths;
	return 0;
}

int spec_decode_pairs(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_pairs pairs;
	if (check_count(d, value, SPEC_PAIRS_MAX, err) < 0 ||
		json_decode_pairs(d, value, &pairs, err) < 0)
		return -1;
	for (size_t i = 0; i < pairs.count; i++)
		if (!*pairs.items[i].key)
			return json_decode_fail(d, value, err, ERROR_INVALID, "a key is empty");
	*(struct json_pairs *)target = pairs;
	return 0;
}

static int decode_id_map(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"containerID", spec_decode_id, offsetof(struct runtime_id_map, container),
			JSON_REQUIRED},
		{"hostID", spec_decode_id, offsetof(struct runtime_id_map, host), JSON_REQUIRED},
		{"size", spec_decode_u32, offsetof(struct runtime_id_map, size), JSON_REQUIRED},
		{0},
	};
	const struct runtime_id_map *map = target;
	if (json_decode_object(d, value, fields, false, target, err) < 0)
		return -1;
	if (map->size == 0)
		return json_decode_fail(d, value, err, ERROR_INVALID, "size: must be over 0");
	// 4294967295 is no id and so is never part of a range.
	if (map->size > UINT32_MAX - map->container || map->size > UINT32_MAX - map->host)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "the range leads beyond 4294967294");
	return 0;
}

int spec_decode_id_maps(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_id_maps *maps = target;
	void *items;
	if (json_decode_array(d, value, decode_id_map, sizeof(*maps->items), SPEC_ID_MAPS_MAX,
		    &items, &maps->count, err) < 0)
		return -1;
	maps->items = items;
	return 0;
}

int spec_decode_unlimitable(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	int64_t number;
	if (json_decode_int64(d, value, &number, err) < 0)
		return -1;
	if (number < -1)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must not be negative, save -1: unlimited");
	*(int64_t *)target = number == -1 ? RUNTIME_UNLIMITED : number;
	return 0;
}

void spec_warn(struct json_decoder *d, const char *text)
{
	struct spec_decoding *decoding = d->context;
	struct json_strings *warnings = &decoding->spec->warnings;
	if (warnings->count + 1 >= decoding->warning_capacity) {
		size_t capacity = decoding->warning_capacity * 2 + 8;
		const char **items = arena_array(d->arena, const char *, capacity);
		if (warnings->count)
			memcpy(items, warnings->items, warnings->count * sizeof(*items));
		warnings->items = items;
		decoding->warning_capacity = capacity;
	}
	warnings->items[warnings->count++] = text;
}
