// SPDX-License-Identifier: Apache-2.0
//
// The side index of a log, <name>.index: when each part of it was written, and what is missing.
// A header of 24 bytes ("STKINDEX", u32 version 1, u32 record size 24, u64 0), then records of 24
// bytes, all numbers little-endian:
//
//   u64 offset    the bytes of the log from here on …
//   i64 unix_us   … were written at this time or later, until the next record
//   u64 dropped   bytes lost so far in all; the top bit: and more are being lost
//
// Offsets never fall. Times do where the clock was set back. A record stands there before the
// bytes of which it speaks; one that is torn, or lies behind the end of the log (a power cut), is
// not counted. Nothing is lost with the index but times: what was dropped the log says itself.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct journal_stamp {
	uint64_t offset;
	int64_t unix_us;
	uint64_t dropped;
	bool dropping;
};

struct journal_index {
	int fd;
	uint64_t count;
};

// For the writer of a log of this size: opens or makes the file, locked against a second writer
// (ERROR_UNAVAILABLE), without what is torn.
int journal_index_open(
	struct journal_index *x, int dirfd, const char *path, uint64_t log_size, struct error *err);
// False if it could not be written; the file is then as before.
bool journal_index_append(struct journal_index *x, const struct journal_stamp *stamp);

// For readers: ERROR_NOT_FOUND if there is none. More records may come at any time.
int journal_index_open_read(
	struct journal_index *x, int dirfd, const char *path, struct error *err);
void journal_index_refresh(struct journal_index *x); // count what is there now
// Record number `i`; false if there is none.
bool journal_index_get(const struct journal_index *x, uint64_t i, struct journal_stamp *stamp);
// The number of the last record with an offset not above `offset`; -1 if there is none.
int64_t journal_index_find(const struct journal_index *x, uint64_t offset);
// Where reading must begin so as to see all that was written since then: from the end backwards,
// behind the last part that is older. UINT64_MAX: nothing is newer than the last record.
uint64_t journal_index_since(const struct journal_index *x, int64_t unix_us);
void journal_index_close(struct journal_index *x);

#define cleanup_journal_index __attribute__((cleanup(journal_index_close)))
