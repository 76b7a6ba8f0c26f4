// SPDX-License-Identifier: Apache-2.0
// Job files as people write them, and as others make up.
#include "agent/job/spec.h"
#include "base/text.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool condition)
{
	if (!condition)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_job_spec struct job_spec s = {0};
	struct error err = {0};

	if (job_spec_parse(&s, (const char *)data, size, "job.yaml", &err) < 0) {
		expect((err.kind == ERROR_INVALID || err.kind == ERROR_LIMIT) && err.text[0]);
		return 0;
	}
	expect(job_experiment_check(s.experiment, &err) == 0);
	expect(s.entry_script[0] && s.entry_script[0] != '/' && s.source_directory[0]);
	expect(s.arguments.count <= 2 * JOB_ARGUMENTS_MAX);
	for (size_t i = 0; i < s.arguments.count; i++)
		expect(strlen(s.arguments.items[i]) <= JOB_BYTES_MAX);
	for (size_t i = 0; i < s.variables.count; i++)
		expect(s.variables.items[i].key[0] && !strchr(s.variables.items[i].key, '=') &&
			s.variables.items[i].value);
	for (size_t i = 0; i < s.input_count; i++)
		expect(s.inputs[i].name[0] && s.inputs[i].path[0] && s.inputs[i].target[0] == '/');
	return 0;
}
