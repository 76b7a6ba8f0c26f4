// SPDX-License-Identifier: Apache-2.0
//
// What nodes say in polls and reports, and the job of a submission: documents as the controller
// reads them. The first byte says which.
#include "base/text.h"
#include "controller/state/job.h"
#include "controller/state/poll.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void check_poll(const struct poll *p)
{
	check(p->attempt_count <= POLL_ATTEMPTS_MAX && p->wait_ms <= POLL_WAIT_MS_MAX);
	check(p->cpus >= 0 && p->cpus <= JOB_CPUS_MAX && p->memory <= INT64_MAX);
	for (size_t i = 0; i < p->attempt_count; i++) {
		const struct poll_attempt *t = &p->attempts[i];
		check(t->run && t->state && t->attempt >= 1 && t->sequence >= 0);
		check(!streq(t->state, "ended") || t->result);
	}
}

static void read_job(struct arena *a, const struct json *document)
{
	struct job job;
	struct error err = {0};
	if (job_read(a, document, NULL, &job, &err) < 0) {
		check(err.kind != ERROR_NONE && *err.text);
		return;
	}
	check(strlen(job.experiment) < JOB_EXPERIMENT_SIZE && job.cpus > 0);
	check(job.cpus <= JOB_CPUS_MAX && job.gpus <= JOB_GPUS_MAX && job.memory <= INT64_MAX);
	check(strlen(job.hint) == SHA256_HEX_SIZE - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_arena struct arena a = {0};
	struct json_limits limits = json_limits_default;
	struct error err = {0};
	struct poll poll;
	limits.bytes = 1024 * 1024;
	if (size == 0)
		return 0;
	const struct json *j =
		json_parse(&a, (const char *)data + 1, size - 1, "body", &limits, &err);
	if (!j || j->type != JSON_OBJECT)
		return 0;
	if (data[0] == 'j')
		read_job(&a, j);
	else if (poll_decode(&a, j, data[0] == 'r', &poll, &err) == 0)
		check_poll(&poll);
	else
		check(err.kind != ERROR_NONE && *err.text);
	return 0;
}
