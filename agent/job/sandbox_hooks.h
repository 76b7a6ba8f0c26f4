// SPDX-License-Identifier: Apache-2.0
//
// Hooks of a job's container, which its devices bring along (CDI): NVIDIA's make links and the
// loader's cache in the image. Such a hook reads the bundle that the state on its stdin names, so
// it is shown one: a folder with config.json, and the root file system where that says.
#pragma once

#include "agent/job/sandbox.h"

// container_options.hook, with the sandbox as data.
int sandbox_hook(
	void *data, enum runtime_hook_point point, pid_t pid, int root_fd, struct error *err);
// The points after the start and after the end, whose failures are warnings.
void sandbox_hooks_after(
	struct sandbox *s, enum runtime_hook_point point, pid_t pid, struct buffer *warnings);
