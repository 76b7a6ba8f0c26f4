// SPDX-License-Identifier: Apache-2.0
//
// Sleeping until something may have happened to a log, or to the run that it is of.
#pragma once

#include "base/error.h"

#include <stdint.h>

enum log_change {
	LOG_GREW = 1 << 0,
	LOG_MAY_HAVE_ENDED = 1 << 1,
	LOG_GONE = 1 << 2,   // the attempt's directory was removed
	LOG_UNREAD = 1 << 3, // nobody reads the output any more
};

struct log_watch {
	int fd, dirfd, output_fd;
	int directory, logs; // watch descriptors; logs -1: not there yet
};

int log_watch_open(struct log_watch *w, int dirfd, int ended_fd, int output_fd, struct error *err);
// Returns a set of enum log_change, 0 after `timeout_ms` (-1: no limit), or -1.
int log_watch_wait(struct log_watch *w, int timeout_ms, struct error *err);
void log_watch_close(struct log_watch *w);

#define cleanup_log_watch __attribute__((cleanup(log_watch_close)))
