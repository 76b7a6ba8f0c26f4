// SPDX-License-Identifier: Apache-2.0
//
// Reads the log of a job (journal.h), from a time or a number of lines before its end, and follows
// it. Following sleeps until the kernel tells of a change (inotify(7)); the log may be written by
// anybody and need not exist yet.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct log_reader_options {
	int dirfd;	  // the attempt's directory
	const char *name; // NULL: "std_log"
	int output_fd;	  // where it goes; following ends when its reader goes away

	// From the line that was being written then; as exact as the index: a line or a few more
	// may come, up to JOURNAL_STAMP_MS (JOURNAL_STAMP_LATER_MS) older, never fewer.
	bool has_since;
	int64_t since_us;
	// From the last `tail` lines at most; an unfinished one counts. -1: all.
	int64_t tail;
	// Before each line the time at which its first byte was written, or up to JOURNAL_STAMP_MS
	// (JOURNAL_STAMP_LATER_MS) earlier.
	bool timestamps;

	// Go on until ended() says that nothing will be appended any more; then read the rest. It
	// is asked at the beginning, when a file appears in the attempt's directory by rename or
	// is made there, when a writer closes the log or `ended_fd` (a file locked by who runs the
	// job; -1: none), and some times in the second after that.
	bool follow;
	bool (*ended)(void *data);
	int ended_fd;
	void *data;
};

// A log that does not exist is empty. ERROR_NOT_FOUND if times are asked for and it has no index.
int log_read(const struct log_reader_options *o, struct error *err);
