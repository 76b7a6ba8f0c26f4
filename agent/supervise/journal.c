// SPDX-License-Identifier: Apache-2.0
//
// Moved by read(2) and pwrite(2) in pieces of 128 KiB: splice(2) from a pipe to a file copies too,
// page by page, and was slower; nor do kernels before 6.5 tell those who follow the file of it.
#include "agent/supervise/journal.h"

#include "agent/supervise/journal_index.h"
#include "base/file.h"
#include "base/time.h"
#include "base/weaken.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	PIECE = 128 * 1024,
	RESERVE_STEP = 1024 * 1024,	      // room is asked for in such steps, …
	RESERVE_STEP_MAX = 16 * RESERVE_STEP, // an eighth of a large log, up to this, …
	RESERVE_LINES = 1024,		      // … of which so much stays for our own lines
	LINE_MAX_SIZE = 256,
	SECOND_US = 1000 * 1000,
	SPACE_CHECK_BYTES = 16 * 1024 * 1024, // look at the free space once in so many bytes …
	SPACE_RESUME = 16 * 1024 * 1024,      // … and begin again when so much more is free
};

enum gap { GAP_NONE, GAP_LIMIT, GAP_SPACE };

struct journal {
	struct journal_options o;
	char *log_path;
	int fd;
	struct journal_index index;
	uint64_t size;
	uint64_t reserved; // the disk has room for the log up to here
	bool cannot_reserve;
	enum gap gap;	      // why bytes are being dropped
	bool announced;	      // the log says so
	uint64_t gap_dropped; // in this gap
	uint64_t dropped;     // in all
	int64_t stamped_us;   // the last record of the index
	int64_t retried_us;   // in a gap: the last look at whether it could end
	uint64_t space_checked_at;
	int64_t space_checked_us;
	struct buffer shown; // what redaction let pass
	char piece[PIECE];
};

static int64_t now_us(const struct journal *j)
{
	return j->o.now_us ? j->o.now_us(j->o.data) : wall_us();
}

// A clock that was set back counts as time that has passed.
static bool has_passed(int64_t since, int64_t now, int64_t us)
{
	return now - since >= us || now < since;
}

// ---- the index

// Times are a help, not the log: a failure is not reported, and tried again with the next bytes.
static void stamp(struct journal *j, int64_t now)
{
	const struct journal_stamp s = {
		.offset = j->size,
		.unix_us = now,
		.dropped = j->dropped,
		.dropping = j->gap != GAP_NONE,
	};
	if (journal_index_append(&j->index, &s))
		j->stamped_us = now;
}

static void stamp_sometimes(struct journal *j, int64_t now)
{
	int64_t ms =
		j->index.count < JOURNAL_STAMPS_FINE ? JOURNAL_STAMP_MS : JOURNAL_STAMP_LATER_MS;
	if (!j->index.count || has_passed(j->stamped_us, now, ms * 1000))
		stamp(j, now);
}

// ---- the file

static bool is_full(int sys)
{
	return sys == ENOSPC || sys == EDQUOT || sys == EFBIG;
}

// Returns how many bytes found room; -1 for an error that is none of space.
static ssize_t write_some(struct journal *j, const char *data, size_t size, struct error *err)
{
	size_t done = 0;
	while (done < size) {
		ssize_t n = pwrite(j->fd, data + done, size - done, (off_t)j->size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && is_full(errno))
			break;
		if (n <= 0)
			return error_set_errno(err, n < 0 ? errno : EIO, "write %s", j->log_path);
		done += (size_t)n;
		j->size += (uint64_t)n;
	}
	return (ssize_t)done;
}

// Make the disk's room reach `size` bytes further, and for our lines behind them.
static bool reserve(struct journal *j, size_t size)
{
	uint64_t needed = j->size + size + RESERVE_LINES;
	if (j->cannot_reserve || needed <= j->reserved)
		return true;
	// Seldom: each one is a transaction of the file system, and waits where the disk is busy.
	uint64_t step = j->size / 8 < RESERVE_STEP	 ? RESERVE_STEP
			: j->size / 8 > RESERVE_STEP_MAX ? RESERVE_STEP_MAX
							 : j->size / 8;
	for (;; step = 0) {
		uint64_t end = needed + step;
		if (fallocate(j->fd, FALLOC_FL_KEEP_SIZE, (off_t)j->size, (off_t)(end - j->size)) ==
			0) {
			j->reserved = end;
			return true;
		}
		if (errno == EINTR) // a signal; nothing is lost by trying less
			continue;
		if (!is_full(errno)) {
			j->cannot_reserve = true; // EOPNOTSUPP: write and see
			return true;
		}
		if (!step)
			return false;
	}
}

static uint64_t free_bytes(const struct journal *j)
{
	struct statvfs s;
	if (j->o.free_bytes)
		return j->o.free_bytes(j->o.data);
	if (fstatvfs(j->fd, &s) < 0)
		return UINT64_MAX;
	return (uint64_t)s.f_bavail * s.f_frsize;
}

static bool is_space_low(struct journal *j, int64_t now)
{
	if (!j->o.keep_free || (j->size < j->space_checked_at + SPACE_CHECK_BYTES &&
				       !has_passed(j->space_checked_us, now, SECOND_US)))
		return false;
	j->space_checked_at = j->size;
	j->space_checked_us = now;
	return free_bytes(j) < j->o.keep_free;
}

// ---- what is dropped

static void describe_gap(const struct journal *j, char text[LINE_MAX_SIZE])
{
	if (j->gap == GAP_LIMIT)
		snprintf(text, LINE_MAX_SIZE, "the log reached its limit of %llu bytes",
			(unsigned long long)j->o.limit);
	else
		snprintf(text, LINE_MAX_SIZE, "the disk has no more room for it");
}

// A line of ours, whole or not at all: a part of one that found no room is taken back.
static bool write_line(struct journal *j, const char *text, struct error *err)
{
	char line[2 * LINE_MAX_SIZE], last = '\n';
	uint64_t before = j->size;
	if (j->size && pread(j->fd, &last, 1, (off_t)j->size - 1) != 1)
		last = '\0';
	int n = snprintf(line, sizeof(line), "%s[stoker: %s]\n", last == '\n' ? "" : "\n", text);
	ssize_t written = write_some(j, line, (size_t)n, err);
	if (written == n)
		return true;
	if (j->size > before && ftruncate(j->fd, (off_t)before) == 0)
		j->size = before;
	return false;
}

static void announce(struct journal *j, int64_t now)
{
	char why[LINE_MAX_SIZE], text[LINE_MAX_SIZE + 32];
	struct error ignored; // it is tried again
	describe_gap(j, why);
	snprintf(text, sizeof(text), "%s: what follows is dropped", why);
	j->announced = write_line(j, text, &ignored);
	j->retried_us = now;
	stamp(j, now);
}

static void drop(struct journal *j, enum gap why, size_t size, int64_t now)
{
	if (j->gap == GAP_NONE) {
		j->gap = why;
		j->gap_dropped = 0;
		announce(j, now); // before anything is lost
	} else if (!j->announced && has_passed(j->retried_us, now, SECOND_US)) {
		announce(j, now);
	}
	j->gap_dropped += size;
	j->dropped += size;
	if (has_passed(j->stamped_us, now, SECOND_US))
		stamp(j, now);
}

// Returns false if the line that says what was lost found no room: the gap stays open.
static bool end_gap(struct journal *j, int64_t now)
{
	char why[LINE_MAX_SIZE], text[LINE_MAX_SIZE + 64];
	struct error ignored;
	describe_gap(j, why);
	snprintf(text, sizeof(text), "%llu bytes dropped: %s", (unsigned long long)j->gap_dropped,
		why);
	if (!write_line(j, text, &ignored))
		return false;
	j->gap = GAP_NONE;
	j->announced = false;
	stamp(j, now);
	return true;
}

// Once a second: is there room again?
static bool try_resume(struct journal *j, int64_t now)
{
	if (j->gap == GAP_LIMIT || !has_passed(j->retried_us, now, SECOND_US))
		return false;
	j->retried_us = now;
	if (free_bytes(j) < j->o.keep_free + SPACE_RESUME || !reserve(j, RESERVE_STEP))
		return false;
	return end_gap(j, now);
}

// ---- appending

// How many of the bytes may be written, and why not more.
static size_t room_for(struct journal *j, size_t size, int64_t now, enum gap *why)
{
	uint64_t limit = j->o.limit ? j->o.limit : UINT64_MAX;
	uint64_t room = j->size < limit ? limit - j->size : 0;
	*why = GAP_LIMIT;
	if (size > room)
		size = (size_t)room;
	if (size && is_space_low(j, now)) {
		*why = GAP_SPACE;
		return 0;
	}
	if (size && !reserve(j, size)) {
		uint64_t end = j->size + RESERVE_LINES;
		*why = GAP_SPACE;
		return j->reserved > end ? (size_t)(j->reserved - end) : 0;
	}
	return size;
}

static int keep(struct journal *j, const char *data, size_t size, struct error *err)
{
	enum gap why;
	int64_t now = now_us(j);
	if (!size)
		return 0;
	if (j->gap != GAP_NONE && !try_resume(j, now)) {
		drop(j, j->gap, size, now);
		return 0;
	}
	size_t room = room_for(j, size, now, &why);
	if (room)
		stamp_sometimes(j, now);
	ssize_t written = write_some(j, data, room, err);
	if (written < 0)
		return -1;
	if ((size_t)written < room)
		why = GAP_SPACE;
	if ((size_t)written < size)
		drop(j, why, size - (size_t)written, now);
	return 0;
}

int journal_append(struct journal *j, const void *data, size_t size, struct error *err)
{
	if (!j->o.redact || weakened("redaction"))
		return keep(j, data, size, err);
	buffer_clear(&j->shown);
	redact_feed(j->o.redact, data, size, &j->shown);
	return keep(j, j->shown.data, j->shown.size, err);
}

int journal_read_from(struct journal *j, int fd, struct error *err)
{
	ssize_t n = read(fd, j->piece, sizeof(j->piece));
	if (n > 0)
		return journal_append(j, j->piece, (size_t)n, err) < 0 ? -1 : JOURNAL_MORE;
	if (n == 0)
		return JOURNAL_END;
	if (errno == EINTR)
		return JOURNAL_MORE;
	if (errno == EAGAIN)
		return JOURNAL_AGAIN;
	return error_set_errno(err, errno, "read the job's output");
}

int journal_finish(struct journal *j, struct error *err)
{
	int rc = 0;
	if (j->o.redact) {
		buffer_clear(&j->shown);
		redact_finish(j->o.redact, &j->shown);
		rc = keep(j, j->shown.data, j->shown.size, err);
	}
	if (j->gap != GAP_NONE && !end_gap(j, now_us(j)))
		stamp(j, now_us(j)); // the index may have room
	return rc;
}

int journal_sync(struct journal *j, struct error *err)
{
	if (fdatasync(j->fd) < 0)
		return error_set_errno(err, errno, "fsync %s", j->log_path);
	return 0;
}

// ---- opening

// What the last writer had lost, and did not come to say.
static int take_over(struct journal *j, struct error *err)
{
	struct journal_stamp last, before = {0};
	if (!journal_index_get(&j->index, j->index.count - 1, &last))
		return 0;
	j->dropped = last.dropped;
	j->stamped_us = last.unix_us;
	if (!last.dropping)
		return 0;
	for (uint64_t i = j->index.count - 1; i && journal_index_get(&j->index, i - 1, &before);
		i--)
		if (!before.dropping)
			break;
	if (before.dropping)
		before.dropped = 0;
	char text[LINE_MAX_SIZE];
	snprintf(text, sizeof(text),
		"at least %llu bytes dropped: the writer of the log was killed",
		(unsigned long long)(last.dropped - before.dropped));
	struct error failure = {0};
	if (!write_line(j, text, &failure) && failure.kind != ERROR_NONE) {
		*err = failure;
		return -1;
	}
	stamp(j, now_us(j));
	return 0;
}

int journal_open(
	int dirfd, const struct journal_options *o, struct journal **journal, struct error *err)
{
	const char *name = o->name ? o->name : "std_log";
	cleanup_free char *index_path = xasprintf("%s.index", name);
	struct stat st;
	cleanup_journal struct journal *j = xmalloc(sizeof(*j)); // not touching the piece's pages
	memset(j, 0, offsetof(struct journal, piece));
	j->o = *o;
	j->fd = j->index.fd = -1;
	j->log_path = xasprintf("user_logs/%s.txt", name);
	if (directory_make(dirfd, "user_logs", 0755, err) < 0)
		return -1;
	j->fd = openat(dirfd, j->log_path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (j->fd < 0 || fstat(j->fd, &st) < 0)
		return error_set_errno(err, errno, "make %s", j->log_path);
	j->size = (uint64_t)st.st_size;
	if (journal_index_open(&j->index, dirfd, index_path, j->size, err) < 0)
		return -1;
	if (j->index.count && take_over(j, err) < 0)
		return -1;
	reserve(j, 0); // before the disk is full
	*journal = steal(j);
	return 0;
}

void journal_close(struct journal *j)
{
	struct error ignored;
	if (!j)
		return;
	if (j->fd >= 0 && j->index.fd >= 0) {
		journal_finish(j, &ignored);
		// Gives back the room beyond the end.
		int rc = ftruncate(j->fd, (off_t)j->size);
		(void)rc;
	}
	close_fdp(&j->fd);
	journal_index_close(&j->index);
	buffer_release(&j->shown);
	free(j->log_path);
	free(j);
}

struct journal_counts journal_counts(const struct journal *j)
{
	return (struct journal_counts){.size = j->size, .dropped = j->dropped};
}

int journal_fd(const struct journal *j)
{
	return j->fd;
}
