// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/spec_decode.h"

#include "base/text.h"

static int decode_rule_type(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	const char *type;
	if (json_decode_string(d, value, &type, err) < 0)
		return -1;
	if (strlen(type) > 1 || (*type && !strchr("abcu", *type)))
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be a, b, c or u");
	*(char *)target = !*type ? 'a' : *type == 'u' ? 'c' : *type;
	return 0;
}

static int decode_access(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_device_rule *rule = target;
	const char *access;
	if (spec_decode_word(d, value, &access, err) < 0)
		return -1;
	if (!access)
		return 0;
	if (access[strspn(access, "rwm")])
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be letters of \"rwm\"");
	rule->read = strchr(access, 'r');
	rule->write = strchr(access, 'w');
	rule->mknod = strchr(access, 'm');
	return 0;
}

static int decode_number_or_any(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	int64_t number;
	if (json_decode_int64(d, value, &number, err) < 0)
		return -1;
	if (number < -1 || number > UINT32_MAX)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be a number of a device");
	*(int64_t *)target = number;
	return 0;
}

static int decode_rule(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"allow", json_decode_bool, offsetof(struct runtime_device_rule, allow),
			JSON_REQUIRED},
		{"type", decode_rule_type, offsetof(struct runtime_device_rule, type),
			JSON_NULLABLE},
		{"major", decode_number_or_any, offsetof(struct runtime_device_rule, major),
			JSON_NULLABLE},
		{"minor", decode_number_or_any, offsetof(struct runtime_device_rule, minor),
			JSON_NULLABLE},
		{"access", decode_access, 0, JSON_NULLABLE},
		{0},
	};
	struct runtime_device_rule *rule = target;
	*rule = (struct runtime_device_rule){.type = 'a', .major = -1, .minor = -1};
	if (json_decode_object(d, value, fields, false, rule, err) < 0)
		return -1;
	// A rule without access speaks of all.
	if (!rule->read && !rule->write && !rule->mknod)
		rule->read = rule->write = rule->mknod = true;
	return 0;
}

static int decode_rules(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_device_rules *rules = target;
	void *items;
	if (json_decode_array(d, value, decode_rule, sizeof(*rules->items), SPEC_DEVICES_MAX,
		    &items, &rules->count, err) < 0)
		return -1;
	rules->items = items;
	return 0;
}

// Limits of kernel memory are gone from the kernel; "unlimited" says what is so.
static int refuse_limit(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type == JSON_INTEGER && value->integer == -1)
		return 0;
	return spec_decode_refuse(d, value, target, err);
}

// 0 says something.
static int refuse_number(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	(void)target;
	return json_decode_fail(d, value, err, ERROR_INVALID, "not supported");
}

// Groups account for what is below them; `false` cannot be had.
static int decode_hierarchy(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	bool use;
	(void)target;
	if (json_decode_bool(d, value, &use, err) < 0)
		return -1;
	if (!use)
		return json_decode_fail(d, value, err, ERROR_INVALID, "false is not supported");
	return 0;
}

// It speaks of changing the limit of processes that run already; a new group has none.
static int decode_check(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	bool check;
	(void)target;
	return json_decode_bool(d, value, &check, err);
}

static int decode_memory(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"limit", spec_decode_unlimitable, offsetof(struct runtime_resources, memory_limit),
			JSON_NULLABLE},
		{"reservation", spec_decode_unlimitable,
			offsetof(struct runtime_resources, memory_reservation), JSON_NULLABLE},
		{"swap", spec_decode_unlimitable, offsetof(struct runtime_resources, memory_swap),
			JSON_NULLABLE},
		{"disableOOMKiller", json_decode_bool,
			offsetof(struct runtime_resources, disable_oom_killer), JSON_NULLABLE},
		{"kernel", refuse_limit},
		{"kernelTCP", refuse_limit},
		{"swappiness", refuse_number, 0, JSON_NULLABLE},
		{"useHierarchy", decode_hierarchy, 0, JSON_NULLABLE},
		{"checkBeforeUpdate", decode_check, 0, JSON_NULLABLE},
		{0},
	};
	return json_decode_object(d, value, fields, false, target, err);
}

static int decode_cpu(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"shares", json_decode_uint64, offsetof(struct runtime_resources, cpu_shares),
			JSON_NULLABLE},
		{"quota", spec_decode_unlimitable, offsetof(struct runtime_resources, cpu_quota),
			JSON_NULLABLE},
		{"period", json_decode_uint64, offsetof(struct runtime_resources, cpu_period),
			JSON_NULLABLE},
		{"cpus", spec_decode_word, offsetof(struct runtime_resources, cpus), JSON_NULLABLE},
		{"mems", spec_decode_word, offsetof(struct runtime_resources, mems), JSON_NULLABLE},
		{"burst", spec_decode_refuse},
		{"idle", spec_decode_refuse},
		{"realtimePeriod", spec_decode_refuse},
		{"realtimeRuntime", spec_decode_refuse},
		{0},
	};
	return json_decode_object(d, value, fields, false, target, err);
}

static int decode_pids(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"limit", spec_decode_unlimitable, offsetof(struct runtime_resources, pids_limit),
			JSON_NULLABLE},
		{0},
	};
	return json_decode_object(d, value, fields, false, target, err);
}

static int decode_throttle(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"major", decode_number_or_any, offsetof(struct runtime_throttle, major),
			JSON_REQUIRED},
		{"minor", decode_number_or_any, offsetof(struct runtime_throttle, minor),
			JSON_REQUIRED},
		{"rate", json_decode_uint64, offsetof(struct runtime_throttle, rate),
			JSON_REQUIRED},
		{0},
	};
	const struct runtime_throttle *throttle = target;
	if (json_decode_object(d, value, fields, false, target, err) < 0)
		return -1;
	if (throttle->major < 0 || throttle->minor < 0)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must name one device");
	return 0;
}

static int decode_throttles(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_throttles *throttles = target;
	void *items;
	if (json_decode_array(d, value, decode_throttle, sizeof(*throttles->items),
		    SPEC_DEVICES_MAX, &items, &throttles->count, err) < 0)
		return -1;
	throttles->items = items;
	return 0;
}

static int decode_weight(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	uint32_t weight;
	if (spec_decode_u32(d, value, &weight, err) < 0)
		return -1;
	if (weight && (weight < 10 || weight > 1000))
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be between 10 and 1000");
	*(uint16_t *)target = (uint16_t)weight;
	return 0;
}

static int decode_block_io(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"weight", decode_weight, offsetof(struct runtime_resources, block_weight),
			JSON_NULLABLE},
		{"throttleReadBpsDevice", decode_throttles,
			offsetof(struct runtime_resources, read_bytes), JSON_NULLABLE},
		{"throttleWriteBpsDevice", decode_throttles,
			offsetof(struct runtime_resources, write_bytes), JSON_NULLABLE},
		{"throttleReadIOPSDevice", decode_throttles,
			offsetof(struct runtime_resources, read_operations), JSON_NULLABLE},
		{"throttleWriteIOPSDevice", decode_throttles,
			offsetof(struct runtime_resources, write_operations), JSON_NULLABLE},
		{"leafWeight", spec_decode_refuse},
		{"weightDevice", spec_decode_refuse},
		{0},
	};
	return json_decode_object(d, value, fields, false, target, err);
}

// It becomes part of a file's name.
static int decode_page_size(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	const char *s = value->string;
	size_t digits = strspn(s, "0123456789");
	const char *unit = s + digits;
	if (!digits || digits > 9 || !(streq(unit, "KB") || streq(unit, "MB") || streq(unit, "GB")))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a size of pages, such as 2MB or 1GB");
	return 0;
}

static int decode_hugepage(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"pageSize", decode_page_size, offsetof(struct runtime_hugepage_limit, page_size),
			JSON_REQUIRED},
		{"limit", json_decode_uint64, offsetof(struct runtime_hugepage_limit, limit),
			JSON_REQUIRED},
		{0},
	};
	return json_decode_object(d, value, fields, false, target, err);
}

static int decode_hugepages(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct runtime_resources *r = target;
	void *items;
	if (json_decode_array(d, value, decode_hugepage, sizeof(*r->hugepages), 64, &items,
		    &r->hugepage_count, err) < 0)
		return -1;
	r->hugepages = items;
	return 0;
}

// Names of files of a control group: "memory.high".
static int decode_unified(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "_.";
	struct json_pairs pairs;
	if (spec_decode_pairs(d, value, &pairs, err) < 0)
		return -1;
	for (size_t i = 0; i < pairs.count; i++) {
		const char *key = pairs.items[i].key, *dot = strchr(key, '.');
		if (!dot || dot == key || key[strspn(key, plain)])
			return json_decode_fail(d, value, err, ERROR_INVALID,
				"\"%.64s\" is no file of a control group", key);
	}
	*(struct json_pairs *)target = pairs;
	return 0;
}

static const struct json_field resource_fields[] = {
	{"devices", decode_rules, offsetof(struct runtime_resources, devices), JSON_NULLABLE},
	{"memory", decode_memory, 0, JSON_NULLABLE},
	{"cpu", decode_cpu, 0, JSON_NULLABLE},
	{"pids", decode_pids, 0, JSON_NULLABLE},
	{"blockIO", decode_block_io, 0, JSON_NULLABLE},
	{"hugepageLimits", decode_hugepages, 0, JSON_NULLABLE},
	{"unified", decode_unified, offsetof(struct runtime_resources, unified), JSON_NULLABLE},
	{"network", spec_decode_refuse},
	{"rdma", spec_decode_refuse},
	{0},
};

int spec_decode_resources(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	return json_decode_object(d, value, resource_fields, false, target, err);
}
