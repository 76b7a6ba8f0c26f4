// SPDX-License-Identifier: Apache-2.0
//
// Who computes on a GPU, by NVIDIA's management library, which is loaded where it is.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { NVML_PROCESSES_MAX = 64 };

struct nvml_answer {
	bool known;	  // false: no library, or it says nothing of this GPU
	bool lost;	  // the GPU itself does not answer
	char problem[96]; // what NVML says then
	unsigned count;	  // processes that compute
	pid_t pids[NVML_PROCESSES_MAX];
	uint64_t memory_used; // bytes, of the whole GPU
};

// Asked in a child: the library takes tens of megabytes, opens the devices itself, and hangs with
// the driver, which is an answer too (`lost` after timeout_ms). The GPU is named by UUID, or by the
// minor number of its node where uuid is NULL. The child keeps no descriptor but its answer's.
int nvml_ask(const char *library, const char *uuid, int64_t minor, int timeout_ms,
	struct nvml_answer *answer, struct error *err);
