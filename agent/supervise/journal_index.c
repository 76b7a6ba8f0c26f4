// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/journal_index.h"

#include "base/file.h"
#include "base/memory.h"

#include <endian.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD_SIZE = 24, READ_AT_ONCE = 64 };

struct record {
	uint64_t offset, unix_us, dropped;
};
_Static_assert(sizeof(struct record) == RECORD_SIZE, "a record has 24 bytes");

struct header {
	char magic[8];
	uint32_t version, record_size;
	uint64_t reserved;
};
_Static_assert(sizeof(struct header) == RECORD_SIZE, "the header is as large as a record");

static const uint64_t dropping_bit = 1ULL << 63;

static struct header make_header(void)
{
	struct header h = {.version = htole32(1), .record_size = htole32(RECORD_SIZE)};
	memcpy(h.magic, "STKINDEX", sizeof(h.magic));
	return h;
}

static off_t record_at(uint64_t i)
{
	return (off_t)(sizeof(struct header) + i * RECORD_SIZE);
}

static bool has_header(int fd)
{
	struct header h, expected = make_header();
	return pread(fd, &h, sizeof(h), 0) == sizeof(h) && memcmp(&h, &expected, sizeof(h)) == 0;
}

void journal_index_refresh(struct journal_index *x)
{
	struct stat st;
	if (fstat(x->fd, &st) < 0 || st.st_size < record_at(0))
		x->count = 0;
	else
		x->count = (uint64_t)(st.st_size - record_at(0)) / RECORD_SIZE;
}

bool journal_index_get(const struct journal_index *x, uint64_t i, struct journal_stamp *stamp)
{
	struct record r;
	if (i >= x->count || pread(x->fd, &r, sizeof(r), record_at(i)) != sizeof(r))
		return false;
	*stamp = (struct journal_stamp){
		.offset = le64toh(r.offset),
		.unix_us = (int64_t)le64toh(r.unix_us),
		.dropped = le64toh(r.dropped) & ~dropping_bit,
		.dropping = le64toh(r.dropped) & dropping_bit,
	};
	return true;
}

// What is torn, and what lies behind the end of the log, goes. A file that is no index begins anew.
static int drop_torn(struct journal_index *x, uint64_t log_size)
{
	struct journal_stamp stamp;
	struct header h = make_header();
	if (!has_header(x->fd)) {
		x->count = 0;
		if (ftruncate(x->fd, 0) < 0)
			return -1;
		return pwrite(x->fd, &h, sizeof(h), 0) == sizeof(h) ? 0 : -1;
	}
	journal_index_refresh(x);
	while (x->count && (!journal_index_get(x, x->count - 1, &stamp) || stamp.offset > log_size))
		x->count--;
	return ftruncate(x->fd, record_at(x->count));
}

int journal_index_open(
	struct journal_index *x, int dirfd, const char *path, uint64_t log_size, struct error *err)
{
	cleanup_fd int fd = openat(dirfd, path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return error_set_errno(err, errno, "make %s", path);
	int rc = file_lock(fd, LOCK_EX | LOCK_NB, path, err);
	if (rc > 0)
		return error_set(err, ERROR_UNAVAILABLE, "%s: the log has a writer", path);
	if (rc < 0)
		return -1;
	*x = (struct journal_index){.fd = steal_fd(&fd)};
	// A full disk must not keep a job from running; times are lost then, and only they.
	if (drop_torn(x, log_size) < 0)
		x->count = 0;
	return 0;
}

bool journal_index_append(struct journal_index *x, const struct journal_stamp *stamp)
{
	struct header h = make_header();
	struct record r = {
		.offset = htole64(stamp->offset),
		.unix_us = htole64((uint64_t)stamp->unix_us),
		.dropped = htole64(stamp->dropped | (stamp->dropping ? dropping_bit : 0)),
	};
	// The header may not have found room at first.
	if (!x->count && pwrite(x->fd, &h, sizeof(h), 0) != sizeof(h))
		return false;
	if (pwrite(x->fd, &r, sizeof(r), record_at(x->count)) != sizeof(r)) {
		int ignored = ftruncate(x->fd, record_at(x->count));
		(void)ignored; // what is torn is not counted either
		return false;
	}
	x->count++;
	return true;
}

int journal_index_open_read(struct journal_index *x, int dirfd, const char *path, struct error *err)
{
	cleanup_fd int fd = openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "open %s", path);
	if (!has_header(fd))
		return error_set(err, ERROR_NOT_FOUND, "%s has no records", path);
	*x = (struct journal_index){.fd = steal_fd(&fd)};
	journal_index_refresh(x);
	return 0;
}

int64_t journal_index_find(const struct journal_index *x, uint64_t offset)
{
	struct journal_stamp stamp;
	uint64_t low = 0,
		 high = x->count; // the record sought is below `high`, at `low` - 1 or more
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		if (journal_index_get(x, middle, &stamp) && stamp.offset <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return (int64_t)low - 1;
}

uint64_t journal_index_since(const struct journal_index *x, int64_t unix_us)
{
	struct record records[READ_AT_ONCE];
	uint64_t since = UINT64_MAX;
	for (uint64_t end = x->count; end;) {
		uint64_t first = end > READ_AT_ONCE ? end - READ_AT_ONCE : 0;
		size_t size = (size_t)(end - first) * RECORD_SIZE;
		if (pread(x->fd, records, size, record_at(first)) != (ssize_t)size)
			return 0; // rather too much than too little
		for (; end > first; end--) {
			const struct record *r = &records[end - 1 - first];
			if ((int64_t)le64toh(r->unix_us) < unix_us)
				return since;
			since = le64toh(r->offset);
		}
	}
	return since == UINT64_MAX ? since : 0;
}

void journal_index_close(struct journal_index *x)
{
	close_fdp(&x->fd);
	*x = (struct journal_index){.fd = -1};
}
