// SPDX-License-Identifier: Apache-2.0
//
// Threads of a job that wait in the kernel, where nothing but their end ends the wait.
#pragma once

#include "oci/runtime/cgroup.h"

#include <stdbool.h>

enum { WAITING_MAX = 64 };

struct waiting {
	struct {
		pid_t thread;
		uint64_t switches; // how often it had waited for something before that
	} items[WAITING_MAX];
	size_t count;
};

// Note those that wait now. Does one of them wait as it did at the last look, without a break?
bool waiting_look(struct waiting *w, const struct cgroup *g);
