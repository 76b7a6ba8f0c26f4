// SPDX-License-Identifier: Apache-2.0
#include "controller/state/poll.h"

#include "base/json_decode.h"
#include "base/text.h"

static int decode_texts(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct json_strings list;
	if (json_decode_strings(d, value, &list, err) < 0)
		return -1;
	if (list.count > POLL_NAMES_MAX)
		return json_decode_fail(d, value, err, ERROR_LIMIT, "more than %d", POLL_NAMES_MAX);
	for (size_t i = 0; i < list.count; i++)
		if (strlen(list.items[i]) > POLL_NAME_BYTES_MAX)
			return json_decode_fail(d, value, err, ERROR_LIMIT,
				"a name of over %d bytes", POLL_NAME_BYTES_MAX);
	*(const char *const **)target = list.items;
	return 0;
}

static int decode_object(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	if (value->type != JSON_OBJECT)
		return json_decode_fail(d, value, err, ERROR_INVALID, "must be an object");
	*(const struct json **)target = value;
	return 0;
}

static const struct json_field attempt_fields[] = {
	{"run", json_decode_string, offsetof(struct poll_attempt, run), JSON_REQUIRED},
	{"attempt", json_decode_int64, offsetof(struct poll_attempt, attempt), JSON_REQUIRED},
	{"sequence", json_decode_int64, offsetof(struct poll_attempt, sequence), JSON_REQUIRED},
	{"state", json_decode_string, offsetof(struct poll_attempt, state), JSON_REQUIRED},
	{"canceling", json_decode_bool, offsetof(struct poll_attempt, canceling), 0},
	{"phase", json_decode_string, offsetof(struct poll_attempt, phase), JSON_NULLABLE},
	{"progress", decode_object, offsetof(struct poll_attempt, progress), JSON_NULLABLE},
	{"started", json_decode_int64, offsetof(struct poll_attempt, started), JSON_NULLABLE},
	{"ended", json_decode_int64, offsetof(struct poll_attempt, ended), JSON_NULLABLE},
	{"environment", json_decode_string, offsetof(struct poll_attempt, environment),
		JSON_NULLABLE},
	{"result", json_decode_string, offsetof(struct poll_attempt, result), JSON_NULLABLE},
	{"cause", decode_object, offsetof(struct poll_attempt, cause), JSON_NULLABLE},
	{"exit_status", json_decode_int64, offsetof(struct poll_attempt, exit_status),
		JSON_NULLABLE},
	{"upload", decode_object, offsetof(struct poll_attempt, upload), JSON_NULLABLE},
	{"retries", json_decode_int64, offsetof(struct poll_attempt, retries), 0},
	{0},
};

static bool is_one_of(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (streq(text, *words))
			return true;
	return false;
}

static int decode_attempt(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	static const char *const states[] = {
		"accepted", "preparing", "running", "finalizing", "ended", NULL};
	static const char *const results[] = {"Completed", "Failed", "Canceled", NULL};
	struct poll_attempt *t = target;
	t->exit_status = -1;
	if (json_decode_object(d, value, attempt_fields, true, t, err) < 0)
		return -1;
	if (!is_one_of(t->state, states))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"state: must be accepted, preparing, running, finalizing or ended");
	if (t->sequence < 0 || t->attempt < 1)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "attempt and sequence: must be positive");
	if (t->result ? !is_one_of(t->result, results) : streq(t->state, "ended"))
		return json_decode_fail(d, value, err, ERROR_INVALID,
			"result: must be Completed, Failed or Canceled");
	return 0;
}

static int decode_attempts(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct poll *p = d->context;
	(void)target;
	return json_decode_array(d, value, decode_attempt, sizeof(struct poll_attempt),
		POLL_ATTEMPTS_MAX, (void **)&p->attempts, &p->attempt_count, err);
}

static const struct json_field return_fields[] = {
	{"run", json_decode_string, offsetof(struct poll_return, run), JSON_REQUIRED},
	{"attempt", json_decode_int64, offsetof(struct poll_return, attempt), JSON_REQUIRED},
	{"reason", json_decode_string, offsetof(struct poll_return, reason), JSON_REQUIRED},
	{0},
};

static int decode_return(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	const struct poll_return *r = target;
	if (json_decode_object(d, value, return_fields, true, target, err) < 0)
		return -1;
	if (strlen(r->reason) > POLL_REASON_MAX)
		return json_decode_fail(
			d, value, err, ERROR_LIMIT, "reason: over %d bytes", POLL_REASON_MAX);
	return 0;
}

static int decode_returns(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct poll *p = d->context;
	(void)target;
	return json_decode_array(d, value, decode_return, sizeof(struct poll_return),
		POLL_ATTEMPTS_MAX, (void **)&p->returns, &p->return_count, err);
}

static int decode_drain(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct poll *p = target;
	bool drain;
	if (json_decode_bool(d, value, &drain, err) < 0)
		return -1;
	p->drain = drain ? POLL_DRAIN_YES : POLL_DRAIN_NO;
	return 0;
}

// GPUs that cannot be given now (in use by others, set aside) do not count.
static uint64_t count_gpus(const struct json *gpus)
{
	uint64_t n = 0;
	if (!gpus || gpus->type != JSON_ARRAY)
		return 0;
	json_array_each (item, gpus)
		n += json_get_bool(&item->value, "ready", true);
	return n;
}

// cpus, memory and gpus are read; all of it is kept for people to see.
static int read_resources(struct json_decoder *d, struct poll *p, struct error *err)
{
	struct resources {
		double cpus;
		uint64_t memory, disk;
		const struct json *gpus, *labels;
	} r = {0};
	static const struct json_field fields[] = {
		{"cpus", json_decode_double, offsetof(struct resources, cpus), JSON_REQUIRED},
		{"memory", json_decode_uint64, offsetof(struct resources, memory), JSON_REQUIRED},
		{"disk", json_decode_uint64, offsetof(struct resources, disk), 0},
		{"gpus", json_decode_any, offsetof(struct resources, gpus), 0},
		{"labels", decode_object, offsetof(struct resources, labels), 0},
		{0},
	};
	if (json_decode_object(d, p->resources, fields, false, &r, err) < 0)
		return -1;
	if (r.gpus && r.gpus->type != JSON_ARRAY)
		return json_decode_fail(d, r.gpus, err, ERROR_INVALID, "gpus: must be an array");
	if (r.cpus < 0 || r.cpus > JOB_CPUS_MAX || r.memory > INT64_MAX / 2)
		return json_decode_fail(
			d, p->resources, err, ERROR_INVALID, "resources: out of all bounds");
	p->cpus = r.cpus;
	p->memory = r.memory;
	p->gpus = count_gpus(r.gpus);
	return 0;
}

int poll_decode(struct arena *a, const struct json *document, bool report, struct poll *p,
	struct error *err)
{
	static const struct json_field fields[] = {
		{"attempts", decode_attempts, 0, JSON_REQUIRED},
		{"boot", json_decode_string, offsetof(struct poll, boot), 0},
		{"instance", json_decode_string, offsetof(struct poll, instance), 0},
		{"version", json_decode_string, offsetof(struct poll, version), 0},
		{"wait_ms", json_decode_uint64, offsetof(struct poll, wait_ms), 0},
		{"draining", json_decode_bool, offsetof(struct poll, draining), 0},
		{"leaving", json_decode_bool, offsetof(struct poll, leaving), 0},
		{"drain", decode_drain, 0, 0},
		{"returns", decode_returns, 0, 0},
		{"resources", decode_object, offsetof(struct poll, resources), JSON_NULLABLE},
		{"images", decode_texts, offsetof(struct poll, images), JSON_NULLABLE},
		{"environments", decode_texts, offsetof(struct poll, environments), JSON_NULLABLE},
		{0},
	};
	static const struct json_field only_attempts[] = {
		{"attempts", decode_attempts, 0, JSON_REQUIRED},
		{0},
	};
	struct json_decoder d = {.arena = a, .document = "body", .context = p};
	*p = (struct poll){0};
	if (json_decode_object(&d, document, report ? only_attempts : fields, true, p, err) < 0)
		return -1;
	if (p->leaving)
		p->wait_ms = 0;
	if (p->wait_ms > POLL_WAIT_MS_MAX)
		p->wait_ms = POLL_WAIT_MS_MAX;
	return p->resources ? read_resources(&d, p, err) : 0;
}
