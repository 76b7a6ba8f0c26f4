// SPDX-License-Identifier: Apache-2.0
#include "agent/config/policy.h"

#include "base/text.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>

enum { CDI_FOLDERS_MAX = 16, USER_ID_RANGES_MAX = 60000, IDS = 65536 };

static const char *cdi_folders[] = {"/etc/cdi", "/var/run/cdi", NULL};

const struct job_policy job_policy_default = {
	.first_user_id = 1000000000, // above what systemd and useradd(8) give out
	.user_id_ranges = 1000,
	.cgroup = "/stoker",
	.agent_memory = 64 * 1024 * 1024,
	.cdi_folders = {.items = cdi_folders, .count = 2},
	.network = JOB_NETWORK_PRIVATE,
	.pids = 4096,
};

static const char *const networks[] = {[JOB_NETWORK_DEFAULT] = "",
	[JOB_NETWORK_PRIVATE] = "private",
	[JOB_NETWORK_NONE] = "none",
	[JOB_NETWORK_HOST] = "host"};

int job_network_parse(const char *name)
{
	for (size_t i = JOB_NETWORK_PRIVATE; i < array_size(networks); i++)
		if (streq(name, networks[i]))
			return (int)i;
	return -1;
}

bool job_cpus_parse(const char *text, double *cpus)
{
	char *end;
	double value = strtod(text, &end);
	if (!isdigit((unsigned char)*text) || *end || text[strspn(text, "0123456789.")] ||
		!(value >= 0.01 && value <= JOB_CPUS_MAX))
		return false;
	*cpus = value;
	return true;
}

// ---- agent.yaml

int policy_decode_size(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	uint64_t *bytes = target;
	if (value->type == JSON_INTEGER && value->integer >= 0) {
		*bytes = (uint64_t)value->integer;
		return 0;
	}
	if (value->type == JSON_STRING && parse_size(value->string, bytes))
		return 0;
	return json_decode_fail(d, value, err, ERROR_INVALID,
		"must be a size: a number of bytes, or digits with k, m, g or t behind");
}

int policy_decode_network(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	int network = value->type == JSON_STRING ? job_network_parse(value->string) : -1;
	if (network < 0)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "must be private, none or host");
	*(enum job_network *)target = (enum job_network)network;
	return 0;
}

int policy_decode_cpus(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	double cpus = value->type == JSON_INTEGER  ? (double)value->integer
		      : value->type == JSON_NUMBER ? value->number
						   : 0;
	if (!(cpus >= 0.01 && cpus <= JOB_CPUS_MAX))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a number from 0.01 to %d", JOB_CPUS_MAX);
	*(double *)target = cpus;
	return 0;
}

int policy_decode_pids(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type != JSON_INTEGER || value->integer < 1 || value->integer > JOB_PIDS_MAX)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a whole number from 1 to %d", JOB_PIDS_MAX);
	*(uint64_t *)target = (uint64_t)value->integer;
	return 0;
}

int policy_decode_job_defaults(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"network", policy_decode_network, offsetof(struct job_policy, network),
			JSON_NULLABLE},
		{"cpus", policy_decode_cpus, offsetof(struct job_policy, cpus), JSON_NULLABLE},
		{"memory", policy_decode_size, offsetof(struct job_policy, memory), JSON_NULLABLE},
		{"pids", policy_decode_pids, offsetof(struct job_policy, pids), JSON_NULLABLE},
		{"disk", policy_decode_size, offsetof(struct job_policy, disk), JSON_NULLABLE},
		{"snapshot_bytes", policy_decode_size, offsetof(struct job_policy, snapshot_bytes),
			JSON_NULLABLE},
		{"snapshot_files", json_decode_uint64, offsetof(struct job_policy, snapshot_files),
			JSON_NULLABLE},
		{0},
	};
	return json_decode_object(d, value, fields, true, target, err);
}

static int decode_first_id(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type != JSON_INTEGER || value->integer < IDS ||
		value->integer > UINT32_MAX - (int64_t)IDS)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a user id from %d to %lld", IDS,
			(long long)(UINT32_MAX - (int64_t)IDS));
	*(uint32_t *)target = (uint32_t)value->integer;
	return 0;
}

static int decode_ranges(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type != JSON_INTEGER || value->integer < 1 ||
		value->integer > USER_ID_RANGES_MAX)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be a whole number from 1 to %d", USER_ID_RANGES_MAX);
	*(uint64_t *)target = (uint64_t)value->integer;
	return 0;
}

static int decode_group(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	const char *path = *(const char **)target;
	if (*path != '/' || !path[1] || strstr(path, "/../") || ends_with(path, "/.."))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be an absolute path below the root of the control groups");
	return 0;
}

static int decode_runtime(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	const char **name = target;
	if (!**name || (strchr(*name, '/') && **name != '/'))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"must be the name of a program (runc, crun, runsc) or an absolute path");
	if (streq(*name, "stoker"))
		*name = NULL;
	return 0;
}

int policy_decode_sandbox(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"runtime", decode_runtime, offsetof(struct job_policy, runtime), JSON_NULLABLE},
		{"first_user_id", decode_first_id, offsetof(struct job_policy, first_user_id), 0},
		{"user_id_ranges", decode_ranges, offsetof(struct job_policy, user_id_ranges), 0},
		{"require_user_ids", json_decode_bool,
			offsetof(struct job_policy, require_user_ids), 0},
		{"allow_host_network", json_decode_bool,
			offsetof(struct job_policy, allow_host_network), 0},
		{"cgroup", decode_group, offsetof(struct job_policy, cgroup), 0},
		{"agent_memory", policy_decode_size, offsetof(struct job_policy, agent_memory), 0},
		{0},
	};
	const struct job_policy *p = target;
	if (json_decode_object(d, value, fields, true, target, err) < 0)
		return -1;
	if (p->first_user_id + p->user_id_ranges * IDS > UINT32_MAX)
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"first_user_id and user_id_ranges reach over the highest user id");
	return 0;
}

int policy_decode_folder(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (json_decode_string(d, value, target, err) < 0)
		return -1;
	if (**(const char **)target != '/')
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be an absolute path");
	return 0;
}

static int decode_folders(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_strings *folders = target;
	void *items;
	size_t count;
	if (json_decode_array(d, value, policy_decode_folder, sizeof(const char *), CDI_FOLDERS_MAX,
		    &items, &count, err) < 0)
		return -1;
	*folders = (struct json_strings){.items = items, .count = count};
	return 0;
}

int policy_decode_devices(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const struct json_field fields[] = {
		{"cdi_folders", decode_folders, offsetof(struct job_policy, cdi_folders), 0},
		{0},
	};
	return json_decode_object(d, value, fields, true, target, err);
}
