// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/hooks.h"

#include "base/process.h"
#include "oci/runtime/spec_names.h"

#include <limits.h>

// What a hook prints is of no use here; one that prints without end is stopped.
enum { HOOK_OUTPUT_MAX = 16 * 1024 * 1024 };

static int run_hook(const struct runtime_hook *hook, const char *state, struct error *err)
{
	cleanup_buffer struct buffer output = {0};
	const char *const plain[] = {hook->path, NULL};
	const char *const nothing[] = {NULL};
	const struct process_run_options o = {
		.file = hook->path,
		.argv = hook->args.count ? (const char *const *)hook->args.items : plain,
		.envp = hook->env.count ? (const char *const *)hook->env.items : nothing,
		.input = state,
		.limit = HOOK_OUTPUT_MAX,
		.timeout_ms = hook->timeout > INT_MAX / 1000 ? INT_MAX : hook->timeout * 1000,
	};
	return process_run_with(&o, &output, err);
}

static int run_numbered(const struct runtime_spec *spec, enum runtime_hook_point point, size_t i,
	const char *state, struct error *err)
{
	if (run_hook(&spec->hooks[point].items[i], state, err) < 0)
		return error_context(err, "%s hook %zu", runtime_hook_names[point], i + 1);
	return 0;
}

int runtime_hooks_run(const struct runtime_spec *spec, enum runtime_hook_point point,
	const char *state, struct error *err)
{
	for (size_t i = 0; i < spec->hooks[point].count; i++)
		if (run_numbered(spec, point, i, state, err) < 0)
			return -1;
	return 0;
}

void runtime_hooks_run_all(const struct runtime_spec *spec, enum runtime_hook_point point,
	const char *state, struct buffer *warnings)
{
	for (size_t i = 0; i < spec->hooks[point].count; i++) {
		struct error err = {0};
		if (run_numbered(spec, point, i, state, &err) < 0)
			buffer_printf(warnings, "%s\n", err.text);
	}
}
