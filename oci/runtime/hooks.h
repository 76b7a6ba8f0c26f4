// SPDX-License-Identifier: Apache-2.0
//
// Hooks: programs that the specification's author wants run at points of a container's life. Each
// gets the container's state on its stdin and is waited for.
#pragma once

#include "oci/runtime/spec.h"

// Run the hooks of a point in their order, each with its own environment and nothing of ours. The
// first failure (a status other than 0, or over its timeout: then it is killed) ends it:
// "prestart hook 2: false exited with status 1". `state` is the document (state.h).
int runtime_hooks_run(const struct runtime_spec *spec, enum runtime_hook_point point,
	const char *state, struct error *err);
// As above for points whose failures the specification calls warnings: all are run, and each
// failure is a line appended to `warnings`.
void runtime_hooks_run_all(const struct runtime_spec *spec, enum runtime_hook_point point,
	const char *state, struct buffer *warnings);
