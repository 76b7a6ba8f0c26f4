// SPDX-License-Identifier: Apache-2.0
//
// config.json of a container as an engine hands it over. What is accepted is written, read and
// written again, and must come out the same.
#include "oci/runtime/spec.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool condition)
{
	if (!condition)
		abort();
}

static void check(const struct runtime_spec *spec)
{
	expect(spec->version && spec->root_path);
	if (spec->has_process)
		expect(spec->process.args.count && spec->process.cwd[0] == '/');
	for (size_t i = 0; i < spec->mount_count; i++)
		expect(spec->mounts[i].destination[0] == '/');
	for (size_t i = 0; i < spec->warnings.count; i++)
		expect(spec->warnings.items[i][0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer first = {0}, second = {0};
	struct runtime_spec spec;
	struct error err = {0};

	if (runtime_spec_parse(&a, (const char *)data, size, "config.json", &spec, &err) < 0) {
		expect((err.kind == ERROR_INVALID || err.kind == ERROR_LIMIT) && err.text[0]);
		return 0;
	}
	check(&spec);
	expect(runtime_spec_write(&spec, &first, &err) == 0);
	expect(runtime_spec_parse(&a, first.data, first.size, "again", &spec, &err) == 0);
	expect(!spec.warnings.count);
	expect(runtime_spec_write(&spec, &second, &err) == 0);
	expect(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
	return 0;
}
