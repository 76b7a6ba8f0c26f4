// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/log_reader.h"

#include "agent/supervise/journal.h"
#include "agent/supervise/journal_index.h"
#include "agent/supervise/log_watch.h"
#include "base/file.h"
#include "base/time.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 64 * 1024, RECHECK_MS = 20, RECHECK_MS_MAX = 500 };

struct reader {
	const struct log_reader_options *o;
	char *log_path, *index_path;
	int fd;			    // of the log; -1: not there yet
	struct journal_index index; // fd -1: not needed, or not opened yet
	uint64_t at;
	bool inside_line;
	// The place in the index, for the times of lines.
	int64_t record; // the one that `at` lies behind; -1: none
	bool placed, has_next;
	struct journal_stamp current, next;
	struct buffer out;
	char block[BLOCK];
};

static void reader_free(struct reader *r)
{
	if (!r)
		return;
	free(r->log_path);
	free(r->index_path);
	close_fdp(&r->fd);
	journal_index_close(&r->index);
	buffer_release(&r->out);
	free(r);
}

DEFINE_CLEANUP(reader_free, struct reader *, reader_free)
#define cleanup_reader __attribute__((cleanup(reader_freep)))

static struct reader *reader_new(const struct log_reader_options *o)
{
	const char *name = o->name ? o->name : "std_log";
	struct reader *r = xcalloc(1, sizeof(*r));
	r->o = o;
	r->fd = r->index.fd = -1;
	r->log_path = xasprintf("user_logs/%s.txt", name);
	r->index_path = xasprintf("%s.index", name);
	return r;
}

static int open_index(struct reader *r, struct error *err)
{
	if (r->index.fd >= 0)
		return 0;
	if (journal_index_open_read(&r->index, r->o->dirfd, r->index_path, err) == 0)
		return 0;
	r->index.fd = -1;
	return error_context(err, "the times of this log are not known");
}

static ssize_t read_at(const struct reader *r, void *data, size_t size, uint64_t offset)
{
	ssize_t n;
	do
		n = pread(r->fd, data, size, (off_t)offset);
	while (n < 0 && errno == EINTR);
	return n;
}

static int read_error(const struct reader *r, struct error *err)
{
	return error_set_errno(err, errno, "read %s", r->log_path);
}

// ---- where to begin

// Going back from `end`, behind line break number `count`, or the beginning. At most `most` bytes
// back: then `end`.
static int find_back(struct reader *r, uint64_t end, uint64_t count, uint64_t most, uint64_t *found,
	struct error *err)
{
	uint64_t at = end;
	while (at && end - at < most) {
		size_t size = at < BLOCK ? (size_t)at : BLOCK;
		ssize_t n = read_at(r, r->block, size, at - size);
		if (n != (ssize_t)size)
			return n < 0 ? read_error(r, err)
				     : error_set(err, ERROR_SYSTEM, "%s: shortened", r->log_path);
		for (size_t rest = size; rest;) {
			const char *line_break = memrchr(r->block, '\n', rest);
			if (!line_break)
				break;
			rest = (size_t)(line_break - r->block);
			if (--count == 0) {
				*found = at - size + rest + 1;
				return 0;
			}
		}
		at -= size;
	}
	*found = at ? end : 0;
	return 0;
}

static int find_tail(struct reader *r, uint64_t end, uint64_t *found, struct error *err)
{
	char last = '\0';
	if (r->o->tail == 0 || !end) {
		*found = end;
		return 0;
	}
	if (read_at(r, &last, 1, end - 1) < 0)
		return read_error(r, err);
	// The last line's own break ends no line before it.
	return find_back(
		r, last == '\n' ? end - 1 : end, (uint64_t)r->o->tail, UINT64_MAX, found, err);
}

// A record's bytes were written at its time or a little later.
static int find_since(struct reader *r, uint64_t end, uint64_t *found, struct error *err)
{
	if (open_index(r, err) < 0)
		return -1;
	int64_t ms =
		r->index.count < JOURNAL_STAMPS_FINE ? JOURNAL_STAMP_MS : JOURNAL_STAMP_LATER_MS;
	uint64_t at = 0; // without records, rather all than nothing
	if (r->index.count)
		at = journal_index_since(&r->index, r->o->since_us - ms * 1000);
	if (at >= end) {
		*found = end;
		return 0;
	}
	return find_back(r, at, 1, BLOCK, found, err);
}

static int find_begin(struct reader *r, struct error *err)
{
	struct stat st;
	uint64_t since = 0, tail = 0;
	if (fstat(r->fd, &st) < 0)
		return read_error(r, err);
	uint64_t end = (uint64_t)st.st_size;
	if (end && r->o->has_since && find_since(r, end, &since, err) < 0)
		return -1;
	if (r->o->tail >= 0 && find_tail(r, end, &tail, err) < 0)
		return -1;
	r->at = since > tail ? since : tail;
	return 0;
}

// ---- lines with times

static void load_next(struct reader *r)
{
	r->has_next = journal_index_get(&r->index, (uint64_t)(r->record + 1), &r->next);
}

static void place(struct reader *r, uint64_t offset)
{
	if (!r->placed) {
		r->record = journal_index_find(&r->index, offset);
		if (r->record >= 0)
			journal_index_get(&r->index, (uint64_t)r->record, &r->current);
		load_next(r);
		r->placed = true;
	}
	while (r->has_next && r->next.offset <= offset) {
		r->record++;
		r->current = r->next;
		load_next(r);
	}
}

static void put_time(struct reader *r, uint64_t offset)
{
	char text[TIME_TEXT_SIZE];
	place(r, offset);
	buffer_printf(
		&r->out, "%s ", r->record < 0 ? "-" : format_time(r->current.unix_us / 1000, text));
}

static int show_with_times(struct reader *r, const char *data, size_t size, struct error *err)
{
	if (open_index(r, err) < 0)
		return -1;
	// Records stand there before the bytes that have been read.
	journal_index_refresh(&r->index);
	if (r->placed && !r->has_next)
		load_next(r);
	buffer_clear(&r->out);
	for (size_t at = 0; at < size;) {
		if (!r->inside_line)
			put_time(r, r->at + at);
		const char *line_break = memchr(data + at, '\n', size - at);
		size_t n = line_break ? (size_t)(line_break + 1 - (data + at)) : size - at;
		buffer_append(&r->out, data + at, n);
		r->inside_line = !line_break;
		at += n;
	}
	return write_all(r->o->output_fd, r->out.data, r->out.size, "the output", err);
}

// ---- reading

static int open_log(struct reader *r, struct error *err)
{
	if (r->fd >= 0)
		return 0;
	r->fd = openat(r->o->dirfd, r->log_path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (r->fd < 0 && errno != ENOENT)
		return error_set_errno(err, errno, "open %s", r->log_path);
	return 0;
}

// What is there now.
static int read_rest(struct reader *r, struct error *err)
{
	if (open_log(r, err) < 0)
		return -1;
	while (r->fd >= 0) {
		ssize_t n = read_at(r, r->block, BLOCK, r->at);
		if (n < 0)
			return read_error(r, err);
		if (n == 0)
			break;
		int rc = r->o->timestamps ? show_with_times(r, r->block, (size_t)n, err)
					  : write_all(r->o->output_fd, r->block, (size_t)n,
						    "the output", err);
		if (rc < 0)
			return -1;
		r->at += (uint64_t)n;
	}
	return 0;
}

static int follow(struct reader *r, struct log_watch *w, struct error *err)
{
	int changes = LOG_MAY_HAVE_ENDED, recheck_ms = -1;
	while (!(changes & LOG_UNREAD)) {
		// Asked before the rest is read, so that nothing can come in between.
		bool ask = changes & LOG_MAY_HAVE_ENDED || !changes;
		bool ended = changes & LOG_GONE || (ask && r->o->ended(r->o->data));
		if (read_rest(r, err) < 0)
			return -1;
		if (ended)
			return 0;
		// A dying process closes its files one after the other, and its locks go last.
		if (changes & LOG_MAY_HAVE_ENDED)
			recheck_ms = RECHECK_MS;
		else if (!changes && recheck_ms > 0)
			recheck_ms = recheck_ms * 2 > RECHECK_MS_MAX ? -1 : recheck_ms * 2;
		changes = log_watch_wait(w, recheck_ms, err);
		if (changes < 0)
			return -1;
	}
	return 0;
}

int log_read(const struct log_reader_options *o, struct error *err)
{
	cleanup_reader struct reader *r = reader_new(o);
	cleanup_log_watch struct log_watch w = {.fd = -1};
	// Watching begins before reading, so that no change falls in between.
	if (o->follow && log_watch_open(&w, o->dirfd, o->ended_fd, o->output_fd, err) < 0)
		return -1;
	if (open_log(r, err) < 0 || (r->fd >= 0 && find_begin(r, err) < 0))
		return -1;
	return o->follow ? follow(r, &w, err) : read_rest(r, err);
}
