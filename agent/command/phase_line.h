// SPDX-License-Identifier: Apache-2.0
//
// How long work other than a pull looks: on a terminal one line that is drawn over (phase, bytes,
// rate, seconds), elsewhere a line for each phase.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct phase_line {
	const char *subject; // "environment", "input data"; the caller's
	char phase[32], detail[160];
	bool terminal, drawn;
	bool counted;		   // bytes were told in this phase
	int64_t started, drawn_at; // monotonic ms
	uint64_t first;		   // bytes that were there when the phase began
};

// May lines be drawn over on standard error?
bool phase_line_is_live(void);
void phase_line_init(struct phase_line *p, const char *subject);
void phase_line_begin(struct phase_line *p, const char *phase, const char *detail); // may be NULL
void phase_line_update(struct phase_line *p, uint64_t done, uint64_t total);	    // 0: not known
void phase_line_notice(struct phase_line *p, const char *text);
void phase_line_end(struct phase_line *p); // leaves the cursor at the start of a clean line

// The live line without its control characters; for tests.
void phase_line_format(const struct phase_line *p, uint64_t done, uint64_t total, int64_t now,
	char *line, int size);
