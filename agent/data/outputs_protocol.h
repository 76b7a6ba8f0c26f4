// SPDX-License-Identifier: Apache-2.0
//
// Between outputs.c and outputs_main.c: the first packet, with the run's folder; then "finish" in,
// struct outputs_status out.
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

enum { OUTPUTS_SOCKET = 3, OUTPUTS_RUN_ID_MAX = 256 };

struct outputs_request {
	uint64_t interval_ms, limit_ms, max_bytes, max_files;
	uint32_t attempt;
	bool once;
	char run_id[OUTPUTS_RUN_ID_MAX];
	char destination[PATH_MAX];
};

static const char outputs_word_finish[] = "finish";
