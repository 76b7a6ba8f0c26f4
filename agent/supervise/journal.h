// SPDX-License-Identifier: Apache-2.0
//
// The journal of a job: what it prints, appended to user_logs/<name>.txt as it comes, byte for byte
// but for secrets, and <name>.index beside that folder (journal_index.h), which says when.
//
// Nothing is dropped silently. When the log reaches its limit, or the file system runs low, it gets
// the line
//   [stoker: the log reached its limit of 1000 bytes: what follows is dropped]
// before the first byte is dropped, and, when bytes are kept again or the output ends,
//   [stoker: 12345 bytes dropped: the log reached its limit of 1000 bytes]
// The log is only ever appended to, so those who follow or upload it never see a part change. A
// writer that is killed in between leaves the first line, and the index says how many bytes it had
// counted a second ago at most; the next journal_open() writes
//   [stoker: at least 12000 bytes dropped: the writer of the log was killed]
// For these lines, room on the disk is kept beyond the end of the file (fallocate(2) with
// FALLOC_FL_KEEP_SIZE); where the file system cannot do that, they are written as soon as it takes
// them.
#pragma once

#include "agent/supervise/redact.h"
#include "base/error.h"
#include "base/memory.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	JOURNAL_PIPE_SIZE = 1024 * 1024, // a good F_SETPIPE_SZ for the pipe that is read from
	JOURNAL_STAMP_MS = 100,		 // how exact times are, at first …
	JOURNAL_STAMP_LATER_MS = 1000,	 // … and after JOURNAL_STAMPS_FINE records (1.5 MiB)
	JOURNAL_STAMPS_FINE = 1 << 16,
};

struct journal;

struct journal_options {
	const char *name;      // NULL: "std_log"
	uint64_t limit;	       // bytes of the log file, the lines above apart; 0: none
	uint64_t keep_free;    // bytes of the file system that the log leaves free
	struct redact *redact; // NULL: no secrets. Stays the caller's
	// For tests; NULL: the wall clock, and statvfs(3).
	int64_t (*now_us)(void *data);
	uint64_t (*free_bytes)(void *data);
	void *data;
};

struct journal_counts {
	uint64_t size;	  // of the log file
	uint64_t dropped; // since the beginning; after a writer was killed, at least
};

// Open or make the log in an attempt's directory; one that exists is gone on with at its end.
// ERROR_UNAVAILABLE if it has a writer.
int journal_open(
	int dirfd, const struct journal_options *o, struct journal **journal, struct error *err);
void journal_close(struct journal *j); // journal_finish(), and frees; NULL is fine

// Full disks and limits are no failures of these: they are counted. Others (EIO) are; what could
// not be written then is lost.
int journal_append(struct journal *j, const void *data, size_t size, struct error *err);

enum journal_read {
	JOURNAL_END,   // the other ends are closed
	JOURNAL_AGAIN, // nothing is there now (of a non-blocking descriptor)
	JOURNAL_MORE,  // a piece was moved; there may be more
};
// Append one piece of what can be read from a pipe. Returns an enum journal_read, or -1.
int journal_read_from(struct journal *j, int fd, struct error *err);

// The output is at its end: appends what redaction held back, and the line of what was dropped.
// More may be appended afterwards.
int journal_finish(struct journal *j, struct error *err);
// fdatasync(2) of the log; the index may be older after a power cut.
int journal_sync(struct journal *j, struct error *err);

struct journal_counts journal_counts(const struct journal *j);
// The log, to read back from with pread(2); the journal's.
int journal_fd(const struct journal *j);

DEFINE_CLEANUP(journal_close, struct journal *, journal_close)
#define cleanup_journal __attribute__((cleanup(journal_closep)))
