// SPDX-License-Identifier: Apache-2.0
//
// How a pull looks: on a terminal a line with totals and a bar per layer (bytes, rate, phase),
// redrawn in place; elsewhere one line per phase and layer, so that a log file stays readable.
#pragma once

#include "oci/store/pull.h"

#include <stdbool.h>
#include <stdint.h>

struct progress {
	char name[OCI_REFERENCE_TEXT_MAX];
	bool terminal;
	unsigned lines;	   // drawn last time, to be drawn over
	int64_t started;   // monotonic ms
	int64_t rate_time; // of the last sample
	uint64_t rate_bytes;
	double rate;	       // bytes per second, smoothed
	unsigned char *phases; // last phase shown per layer, for log lines
	size_t count;
	void (*bytes)(void *data, uint64_t done, uint64_t total); // is told too; NULL
	void *data;
};

void progress_init(struct progress *p, const struct oci_reference *reference);
void progress_release(struct progress *p); // leaves the cursor below what was drawn
#define cleanup_progress __attribute__((cleanup(progress_release)))

// The callbacks of struct pull_events; data is the struct progress.
void progress_update(
	void *data, enum pull_phase phase, const struct pull_layer_progress *layers, size_t count);
void progress_notice(void *data, const char *text);

// One layer's line without a line break, `width` columns at most; for tests.
void progress_format_layer(
	char *line, size_t size, const struct pull_layer_progress *layer, int width);
