// SPDX-License-Identifier: Apache-2.0
//
// What a helper of a mount prints, as lines: passed on as they come (to a log of the run), and the
// last ones kept for the error that tells why it ended. Values that are secret become "***".
#pragma once

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>

enum {
	HELPER_LOG_LINE_MAX = 400, // bytes; what is longer is cut into several
	HELPER_LOG_BYTES_MAX =
		1024 * 1024, // passed on; more is thrown away, but for the last lines
};

struct helper_log {
	int fd; // nonblocking; -1: none, or at its end
	struct buffer pending, last;
	size_t passed;
	char **hidden;
	size_t hidden_count;
	void (*line)(void *data, const char *text); // may be NULL
	void *data;
};

// A pipe: its writing end is *write_fd, for the helper.
int helper_log_open(struct helper_log *l, int *write_fd, struct error *err);
// A value that must not be shown. Short ones are left: they would turn up everywhere.
void helper_log_hide(struct helper_log *l, const char *value);
void helper_log_read(struct helper_log *l); // all that is there; never waits
void helper_log_take(struct helper_log *l, const char *data, size_t size);
void helper_log_flush(struct helper_log *l); // a last line without an end
// One line for an error: the last lines, joined; "" if it has said nothing.
const char *helper_log_last(struct helper_log *l);
void helper_log_release(struct helper_log *l);
