// SPDX-License-Identifier: Apache-2.0
#include "agent/config/policies.h"

#include "agent/config/policy.h"
#include "base/text.h"

#include <stddef.h>

enum { LIST_MAX = 64, SECONDS_MAX = 365 * 86400 };

const struct environment_policy environment_policy_default = {
	.max_seconds = 4 * 3600,
	.negative_seconds = 300,
	.network = true,
	.packages = {.keep_free_bytes = 1ULL << 30},
};

const struct data_policy data_policy_default = {
	.probe_ms = 30 * 1000,
	.flush_ms = 600 * 1000,
	.cache = {.keep_free_bytes = 1ULL << 30},
};

const struct outputs_policy outputs_policy_default = {
	.interval_ms = 10 * 1000,
	.limit_ms = 3600 * 1000,
};

static int decode_strings(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_strings *list = target;
	void *items;
	size_t count;
	if (json_decode_array(d, value, json_decode_string, sizeof(const char *), LIST_MAX, &items,
		    &count, err) < 0)
		return -1;
	*list = (struct json_strings){.items = items, .count = count};
	return 0;
}

static int decode_folders(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_strings *list = target;
	void *items;
	size_t count;
	if (json_decode_array(d, value, policy_decode_folder, sizeof(const char *), LIST_MAX,
		    &items, &count, err) < 0)
		return -1;
	*list = (struct json_strings){.items = items, .count = count};
	return 0;
}

static int decode_seconds(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type != JSON_INTEGER || value->integer < 0 || value->integer > SECONDS_MAX)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a number of seconds, at most %d", SECONDS_MAX);
	*(uint64_t *)target = (uint64_t)value->integer;
	return 0;
}

static int decode_seconds_as_ms(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	uint64_t *ms = target;
	if (decode_seconds(d, value, ms, err) < 0)
		return -1;
	*ms *= 1000;
	return 0;
}

static int decode_cache(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"high", policy_decode_size, offsetof(struct cache_limits, high_bytes), 0},
		{"low", policy_decode_size, offsetof(struct cache_limits, low_bytes), 0},
		{"keep_free", policy_decode_size, offsetof(struct cache_limits, keep_free_bytes),
			0},
		{0},
	};
	const struct cache_limits *l = target;
	if (json_decode_object(d, value, fields, true, target, err) < 0)
		return -1;
	if (l->low_bytes > l->high_bytes)
		return json_decode_fail(d, value, err, ERROR_INVALID, "low must not be above high");
	return 0;
}

int environment_policy_decode(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
#define AT(member) offsetof(struct environment_policy, member)
	static const struct json_field fields[] = {
		{"channels", decode_strings, AT(channels), JSON_NULLABLE},
		{"index_url", json_decode_string, AT(index_url), JSON_NULLABLE},
		{"extra_index_urls", decode_strings, AT(extra_index_urls), JSON_NULLABLE},
		{"local_hosts", decode_strings, AT(local_hosts), JSON_NULLABLE},
		{"netrc", policy_decode_folder, AT(netrc), JSON_NULLABLE},
		{"registry", json_decode_string, AT(registry), JSON_NULLABLE},
		{"push", json_decode_bool, AT(push), 0},
		{"micromamba", policy_decode_folder, AT(micromamba), JSON_NULLABLE},
		{"uv", policy_decode_folder, AT(uv), JSON_NULLABLE},
		{"accept_terms", json_decode_bool, AT(accept_terms), 0},
		{"network", json_decode_bool, AT(network), 0},
		{"max_seconds", decode_seconds, AT(max_seconds), 0},
		{"negative_seconds", decode_seconds, AT(negative_seconds), 0},
		{"cpus", policy_decode_cpus, AT(cpus), JSON_NULLABLE},
		{"memory", policy_decode_size, AT(memory), JSON_NULLABLE},
		{"pids", policy_decode_pids, AT(pids), JSON_NULLABLE},
		{"disk", policy_decode_size, AT(disk), JSON_NULLABLE},
		{"packages", decode_cache, AT(packages), JSON_NULLABLE},
		{"keep_for_seconds", decode_seconds_as_ms, AT(keep_for_ms), JSON_NULLABLE},
		{0},
	};
#undef AT
	return json_decode_object(d, value, fields, true, target, err);
}

int data_policy_decode(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
#define AT(member) offsetof(struct data_policy, member)
	static const struct json_field fields[] = {
		{"bind_roots", decode_folders, AT(bind_roots), JSON_NULLABLE},
		{"local_hosts", decode_strings, AT(local_hosts), JSON_NULLABLE},
		{"allow_fsimage", json_decode_bool, AT(allow_fsimage), 0},
		{"profiles", decode_strings, AT(profiles), JSON_NULLABLE},
		{"max_bytes", policy_decode_size, AT(max_bytes), JSON_NULLABLE},
		{"probe_seconds", decode_seconds_as_ms, AT(probe_ms), 0},
		{"flush_seconds", decode_seconds_as_ms, AT(flush_ms), 0},
		{"cache", decode_cache, AT(cache), JSON_NULLABLE},
		{0},
	};
#undef AT
	return json_decode_object(d, value, fields, true, target, err);
}

int outputs_policy_decode(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
#define AT(member) offsetof(struct outputs_policy, member)
	static const struct json_field fields[] = {
		{"destination", policy_decode_folder, AT(destination), JSON_NULLABLE},
		{"destination_roots", decode_folders, AT(destination_roots), JSON_NULLABLE},
		{"interval_seconds", decode_seconds_as_ms, AT(interval_ms), 0},
		{"limit_seconds", decode_seconds_as_ms, AT(limit_ms), 0},
		{"max_bytes", policy_decode_size, AT(max_bytes), JSON_NULLABLE},
		{"max_files", json_decode_uint64, AT(max_files), JSON_NULLABLE},
		{0},
	};
#undef AT
	return json_decode_object(d, value, fields, true, target, err);
}
