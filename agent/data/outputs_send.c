// SPDX-License-Identifier: Apache-2.0
//
// One file. It is read chunk by chunk, each is hashed, and what differs from what is at the
// destination is written there: what is sent is what was hashed, however the job writes meanwhile.
// Until a difference is found nothing is decided: if it is behind the end of what is there, the
// file has grown, and it is appended to in place; else a part is made, which takes what is the same
// from the file that is there, and is renamed over it.
//
// A file that the job has mapped can change without its times changing, until the kernel writes the
// pages back (after 30 s, as a rule) and so notices the next change. So a file that was written
// less than a minute before it was read is not settled: it is read once more later, at the job's
// end at the latest. The same pass verifies what a large file's append has not looked at.
#include "agent/data/outputs_sha.h"
#include "agent/data/outputs_sync.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

// Of a file that has grown, the beginning is looked at fully up to this; above, the first chunk and
// the last ones are.
enum { LOOK_WHOLE = 64 * 1024 * 1024, HOLE = 64 * 1024, WARM = 128 * 1024 };

enum mode { UNDECIDED, REPLACE, APPEND, CLONED, SAME };

struct hashes {
	uint8_t (*items)[SHA256_SIZE];
	uint64_t size; // of the file
};

struct pass {
	struct outputs_sync *s;
	struct outputs_entry *e;
	int fd;
	struct outputs_identity now;
	enum mode mode;
	struct hashes old, part, new; // at the destination; begun there; of the source
	uint8_t digest[SHA256_SIZE];  // of all of the source, if `first` is 0
	uint64_t first;		      // chunk that is looked at
	uint64_t sent;
	bool settled, sparse;
	// A large file of which only the digest of all is wanted. Most are never changed; the
	// chunks of one that is are hashed then, from what is at the destination.
	bool unchunked;
};

uint64_t outputs_chunks_of(uint64_t size)
{
	return (size + OUTPUTS_CHUNK - 1) / OUTPUTS_CHUNK;
}

static uint64_t length_at(const struct hashes *h, uint64_t k)
{
	uint64_t at = k * OUTPUTS_CHUNK;
	if (at >= h->size)
		return 0;
	return h->size - at < OUTPUTS_CHUNK ? h->size - at : OUTPUTS_CHUNK;
}

static bool is_chunk(const struct hashes *h, uint64_t k, uint64_t size, const uint8_t *digest)
{
	return h->items && size && length_at(h, k) == size &&
	       memcmp(h->items[k], digest, SHA256_SIZE) == 0;
}

static void pass_release(struct pass *p)
{
	close_fdp(&p->fd);
	free(p->old.items);
	free(p->part.items);
	free(p->new.items);
}

// Up to `size` bytes; fewer where the file ends. -1 with errno.
static ssize_t read_at(int fd, char *buffer, size_t size, uint64_t at)
{
	size_t done = 0;
	while (done < size) {
		ssize_t n = pread(fd, buffer + done, size - done, (off_t)(at + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

// What a file at the destination holds: after a restart nothing else is believed.
static int hash_there(struct pass *p, const char *path, struct hashes *h, struct error *err)
{
	struct stat st;
	cleanup_free char *buffer = xmalloc(OUTPUTS_CHUNK); // the others may be in use
	cleanup_fd int fd = p->s->target->ops->read(p->s->target, path, err);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fd < 0 ? -1 : error_set_errno(err, errno, "read %s", p->e->path);
	uint64_t count = outputs_chunks_of((uint64_t)st.st_size);
	if (count > OUTPUTS_CHUNKS_MAX) // not ours, then: it is replaced
		return path ? 0
			    : error_set(err, ERROR_LIMIT, "a part of %s is too large", p->e->path);
	free(h->items);
	*h = (struct hashes){.items = xcalloc(count + 1, SHA256_SIZE)};
	for (uint64_t k = 0; k < count; k++) {
		ssize_t n = read_at(fd, buffer, OUTPUTS_CHUNK, k * OUTPUTS_CHUNK);
		if (n < 0)
			return error_set_errno(
				err, errno, "read %s at the destination", p->e->path);
		outputs_sha_of(buffer, (size_t)n, h->items[k]);
		h->size += (uint64_t)n;
		if (outputs_check_deadline(p->s, err) < 0)
			return -1;
	}
	return 0;
}

static int find_old(struct pass *p, struct error *err)
{
	struct outputs_content *c = &p->e->content;
	if (p->e->kind != OUTPUTS_FILE || !(c->flags & OUTPUTS_PRESENT))
		return 0;
	uint64_t count = outputs_chunks_of(c->sent.size);
	if (c->flags & OUTPUTS_SUSPECT || (count > 1 && !c->chunks))
		return hash_there(p, p->e->path, &p->old, err);
	p->old.size = c->sent.size;
	p->old.items = xcalloc(count + 1, SHA256_SIZE);
	if (count > 1)
		memcpy(p->old.items, c->chunks, count * SHA256_SIZE);
	else
		memcpy(p->old.items, c->digest, SHA256_SIZE);
	return 0;
}

// Has it been at rest long enough? Pages that a mapping has changed are written, so that the kernel
// notices the next change: on a busy disk they may have waited for more than the minute.
static bool is_settled(struct pass *p)
{
	const struct outputs_sync *s = p->s;
	for (int i = 0; i < 2; i++) {
		int64_t quiet = wall_ms() - p->now.ctime_ns / 1000000;
		if (s->at_rest || s->never_settles || quiet <= OUTPUTS_SETTLE_MS)
			return s->at_rest;
		if (i == 0 && (sync_file_range(p->fd, 0, 0,
				       SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
					       SYNC_FILE_RANGE_WAIT_AFTER) < 0 ||
				      outputs_identity_get(p->fd, "", &p->now, NULL) < 0))
			return false;
	}
	return true;
}

// 1: it is open; 0: there is nothing to send. It may be anything by now.
static int open_source(struct pass *p)
{
	struct outputs_sync *s = p->s;
	const char *name;
	int at = outputs_parent_open(&s->parent, s->run_fd, p->e->path, &name);
	p->fd = at < 0 ? -1 : outputs_open_beneath(at, name, O_RDONLY | O_NONBLOCK);
	if (p->fd < 0) {
		if (errno == EACCES || errno == EPERM)
			outputs_skip(s, p->e->path, "it may not be read", true);
		else if (errno != ENOENT && errno != ELOOP && errno != ENOTDIR && errno != ENXIO)
			outputs_skip(s, p->e->path, "it could not be opened", true);
		return 0;
	}
	if (outputs_identity_get(p->fd, "", &p->now, NULL) < 0 || !S_ISREG(p->now.mode))
		return 0;
	struct stat st;
	p->sparse = p->now.size > HOLE && fstat(p->fd, &st) == 0 &&
		    (uint64_t)st.st_blocks * 512 < p->now.size;
	p->settled = is_settled(p);
	return 1;
}

static bool is_within_limits(struct pass *p)
{
	struct outputs_sync *s = p->s;
	const struct outputs_content *c = &p->e->content;
	bool there = p->e->kind == OUTPUTS_FILE && c->flags & OUTPUTS_PRESENT;
	uint64_t before = there ? c->sent.size : 0;
	if (s->chunks - c->chunk_count + outputs_chunks_of(p->now.size) > OUTPUTS_CHUNKS_MAX) {
		outputs_skip(s, p->e->path, "over the 16 TiB that a run's files may have", true);
		return false;
	}
	if (s->policy.max_files && !there && s->status.files >= s->policy.max_files) {
		outputs_skip(s, p->e->path, "over the limit of files", true);
		return false;
	}
	if (s->policy.max_bytes && s->status.bytes - before + p->now.size > s->policy.max_bytes) {
		outputs_skip(s, p->e->path, "over the limit of bytes", true);
		return false;
	}
	return true;
}

static int write_range(
	struct pass *p, const char *data, uint64_t size, uint64_t at, struct error *err)
{
	p->sent += size;
	p->s->status.sent += size;
	return size ? p->s->target->ops->write(p->s->target, data, size, at, err) : 0;
}

static bool is_zero(const char *data, uint64_t size)
{
	return size && !data[0] && memcmp(data, data + 1, size - 1) == 0;
}

// The file at the destination cannot be read any more: somebody has taken it away.
static int lost(struct pass *p, struct error *err)
{
	p->e->content.flags = 0;
	return error_set(err, ERROR_UNAVAILABLE, "%s has gone from the destination", p->e->path);
}

static int keep(struct pass *p, uint64_t at, uint64_t size, struct error *err)
{
	if (!size)
		return 0;
	int rc = p->s->target->ops->keep(p->s->target, at, size, err);
	return rc == 0 ? lost(p, err) : rc < 0 ? -1 : 0;
}

// What an interrupted attempt left of a large file is used. `known`: so many bytes are the same in
// the file that is there.
static int begin_part(struct pass *p, uint64_t known, struct error *err)
{
	struct outputs_sync *s = p->s;
	uint64_t there, at = 0, from = 0;
	if (s->target->ops->part(
		    s->target, p->e->path, outputs_chunks_of(p->now.size) > 1, &there, err) < 0)
		return -1;
	p->mode = REPLACE;
	if (!there)
		return keep(p, 0, known, err);
	if (hash_there(p, NULL, &p->part, err) < 0)
		return -1;
	for (uint64_t k = 0; at < known; k++) {
		uint64_t size = known - at < OUTPUTS_CHUNK ? known - at : OUTPUTS_CHUNK;
		if (is_chunk(&p->part, k, size, p->new.items[k])) {
			if (keep(p, from, at - from, err) < 0)
				return -1;
			from = at + size;
		}
		at += size;
	}
	return keep(p, from, known > from ? known - from : 0, err);
}

static int put_replaced(
	struct pass *p, uint64_t k, const char *data, uint64_t size, struct error *err)
{
	const uint8_t *digest = p->new.items[k];
	uint64_t at = k * OUTPUTS_CHUNK;
	if (is_chunk(&p->part, k, size, digest))
		return 0;
	if (is_chunk(&p->old, k, size, digest))
		return keep(p, at, size, err);
	if (!p->sparse || length_at(&p->part, k))
		return write_range(p, data, size, at, err);
	for (uint64_t done = 0; done < size; done += HOLE) {
		uint64_t n = size - done < HOLE ? size - done : HOLE;
		if (!is_zero(data + done, n) && write_range(p, data + done, n, at + done, err) < 0)
			return -1;
	}
	return 0;
}

static int begin_append(struct pass *p, struct error *err)
{
	p->mode = APPEND;
	return p->s->target->ops->append(p->s->target, p->e->path, err);
}

static int put(struct pass *p, uint64_t k, const char *data, uint64_t size, struct error *err)
{
	uint64_t before = length_at(&p->old, k), at = k * OUTPUTS_CHUNK;
	uint8_t digest[SHA256_SIZE];
	p->new.size += size;
	if (p->unchunked)
		return 0;
	if (p->mode == APPEND)
		return write_range(p, data, size, at, err);
	if (p->mode == REPLACE)
		return put_replaced(p, k, data, size, err);
	if (is_chunk(&p->old, k, size, p->new.items[k]))
		return 0;
	// Nothing but the end of what is there, and more behind it?
	bool grown = p->old.items && p->old.size && before < size && at + before == p->old.size;
	if (grown && before) {
		outputs_sha_of(data, before, digest);
		grown = memcmp(digest, p->old.items[k], SHA256_SIZE) == 0;
	}
	if (grown) {
		if (begin_append(p, err) < 0)
			return -1;
		return write_range(p, data + before, size - before, at + before, err);
	}
	if (begin_part(p, at, err) < 0)
		return -1;
	return put_replaced(p, k, data, size, err);
}

// Where reading begins.
static uint64_t first_to_look_at(struct pass *p)
{
	const struct outputs_content *c = &p->e->content;
	bool grown = p->old.items && p->old.size < p->now.size && !(c->flags & OUTPUTS_SUSPECT) &&
		     outputs_same_file(&c->sent, &p->now);
	uint8_t digest[SHA256_SIZE];
	if (!grown || p->settled || p->old.size <= LOOK_WHOLE ||
		read_at(p->fd, p->s->buffers[0], OUTPUTS_CHUNK, 0) != OUTPUTS_CHUNK)
		return 0;
	outputs_sha_of(p->s->buffers[0], OUTPUTS_CHUNK, digest);
	return is_chunk(&p->old, 0, OUTPUTS_CHUNK, digest) ? p->old.size / OUTPUTS_CHUNK - 1 : 0;
}

int outputs_check_deadline(const struct outputs_sync *s, struct error *err)
{
	s->tick(s->data);
	if (s->deadline_ms && now_ms() > s->deadline_ms)
		return error_set(err, ERROR_LIMIT, "the time for the last round is over");
	return 0;
}

// Small files: without the other thread, which costs more than it saves.
static int copy_small(struct pass *p, struct error *err)
{
	char *buffer = p->s->buffers[0];
	ssize_t n = read_at(p->fd, buffer, (size_t)p->now.size, 0);
	if (n < 0)
		return 1;
	outputs_sha_of(buffer, (size_t)n, p->digest);
	memcpy(p->new.items[0], p->digest, SHA256_SIZE);
	return n ? put(p, 0, buffer, (uint64_t)n, err) : 0;
}

// Bytes are written while they are warm: a chunk later they would come from memory again.
// 0; -1; 1: the source cannot be read.
static int copy_warm(
	struct pass *p, char *buffer, uint64_t size, uint64_t at, uint64_t *got, struct error *err)
{
	for (*got = 0; *got < size;) {
		uint64_t want = size - *got < WARM ? size - *got : WARM;
		ssize_t n = read_at(p->fd, buffer + *got, want, at + *got);
		if (n < 0)
			return 1;
		if (write_range(p, buffer + *got, (uint64_t)n, at + *got, err) < 0)
			return -1;
		*got += (uint64_t)n;
		if ((uint64_t)n < want)
			break;
	}
	return 0;
}

// The next chunk of the source into its slot. 0; -1; 1: the source cannot be read.
static int read_chunk(struct pass *p, uint64_t k, uint64_t *got, struct error *err)
{
	struct outputs_sync *s = p->s;
	uint64_t size = length_at(&(struct hashes){.size = p->now.size}, k);
	char *buffer = s->buffers[k % OUTPUTS_SLOTS];
	*got = 0;
	if (p->unchunked && p->mode == REPLACE) {
		int rc = copy_warm(p, buffer, size, k * OUTPUTS_CHUNK, got, err);
		if (rc)
			return rc;
	} else if (size) {
		ssize_t n = read_at(p->fd, buffer, size, k * OUTPUTS_CHUNK);
		if (n < 0)
			return 1;
		*got = (uint64_t)n;
	}
	if (*got)
		outputs_hasher_put(s->hasher, buffer, *got);
	return 0;
}

// 0; -1; 1: the source cannot be read. Chunks are read ahead as far as there are slots, so that the
// thread that hashes, the slowest of all, never waits for the disk.
static int copy_large(struct pass *p, struct error *err)
{
	struct outputs_sync *s = p->s;
	uint64_t sizes[OUTPUTS_SLOTS], next = p->first, k = p->first;
	bool ended = false;
	p->new.size = p->first *OUTPUTS_CHUNK;
	outputs_hasher_begin(s->hasher, p->first       ? OUTPUTS_HASH_CHUNKS
					: p->unchunked ? OUTPUTS_HASH_WHOLE
						       : OUTPUTS_HASH_BOTH);
	for (;;) {
		if (!ended) {
			uint64_t *got = &sizes[next % OUTPUTS_SLOTS];
			int rc = read_chunk(p, next, got, err);
			if (rc)
				return rc;
			ended = *got < OUTPUTS_CHUNK;
			next += *got ? 1 : 0;
		}
		if (next == k)
			break;
		if (!ended && next - k < OUTPUTS_SLOTS)
			continue;
		outputs_hasher_get(s->hasher, p->new.items[k]);
		if (put(p, k, s->buffers[k % OUTPUTS_SLOTS], sizes[k % OUTPUTS_SLOTS], err) < 0 ||
			outputs_check_deadline(s, err) < 0)
			return -1;
		k++;
	}
	if (!p->first)
		outputs_hasher_end(s->hasher, p->digest);
	return 0;
}

// A large file whose chunks are not known, which is read once more because it was not settled: as a
// rule it is what was sent, and its digest says so without a look at the destination. 1: it is; 0;
// -1.
static int is_as_sent(struct pass *p, struct error *err)
{
	const struct outputs_content *c = &p->e->content;
	const unsigned known = OUTPUTS_PRESENT | OUTPUTS_WHOLE;
	if (p->e->kind != OUTPUTS_FILE || (c->flags & (known | OUTPUTS_SUSPECT)) != known ||
		c->chunks || outputs_chunks_of(c->sent.size) < 2 ||
		!outputs_same_file(&c->sent, &p->now) || c->sent.size != p->now.size ||
		c->sent.mtime_ns != p->now.mtime_ns)
		return 0;
	p->new.items = xcalloc(outputs_chunks_of(p->now.size), SHA256_SIZE);
	p->unchunked = true;
	int rc = copy_large(p, err);
	if (rc == 0 && p->new.size == c->sent.size &&
		memcmp(p->digest, c->digest, SHA256_SIZE) == 0) {
		p->mode = SAME;
		return 1;
	}
	free(steal(p->new.items));
	return rc < 0 ? -1 : 0;
}

static int finish(struct pass *p, struct error *err)
{
	struct outputs_sync *s = p->s;
	const struct outputs_content *c = &p->e->content;
	const struct outputs_attributes a = {
		.size = p->new.size, .mtime_ns = p->now.mtime_ns, .mode = p->now.mode};
	if (p->mode == UNDECIDED && (!p->old.items || p->old.size != p->new.size) &&
		begin_part(p, p->old.items ? p->new.size : 0, err) < 0)
		return -1;
	if (p->mode != UNDECIDED && p->mode != SAME)
		return s->target->ops->finish(s->target, &a, err);
	bool same = !(c->flags & OUTPUTS_SUSPECT) && c->sent.mtime_ns == a.mtime_ns &&
		    (c->sent.mode & 0755) == (a.mode & 0755);
	return same ? 0 : s->target->ops->touch(s->target, p->e->path, &a, err);
}

// What is at the destination now. Returns the first chunk that has changed.
static uint32_t record(struct pass *p)
{
	struct outputs_content *c = &p->e->content;
	uint64_t count = outputs_chunks_of(p->new.size), changed = 0;
	bool whole = p->first == 0;
	if (p->mode == APPEND && count > 1 && c->chunk_count > 1)
		changed = p->old.size / OUTPUTS_CHUNK;
	if (p->mode == UNDECIDED && count == c->chunk_count)
		changed = count;
	if (changed > c->chunk_count || c->flags & OUTPUTS_SUSPECT)
		changed = 0;
	// Chunks that were not looked at are as they were.
	for (uint64_t k = 0; k < p->first && k < count; k++)
		memcpy(p->new.items[k], p->old.items[k], SHA256_SIZE);
	p->s->chunks -= c->chunk_count;
	outputs_content_release(c);
	c->sent = p->now;
	c->sent.size = p->new.size;
	c->flags =
		OUTPUTS_PRESENT | (p->settled ? OUTPUTS_SETTLED : 0) | (whole ? OUTPUTS_WHOLE : 0);
	memcpy(c->digest, p->digest, SHA256_SIZE);
	if (count > 1 && !p->unchunked) {
		c->chunks = xreallocarray(steal(p->new.items), count, SHA256_SIZE);
		c->chunk_count = (uint32_t)count;
		p->s->chunks += count;
	}
	p->e->kind = OUTPUTS_FILE;
	p->e->changed = p->e->replaced = false;
	return (uint32_t)changed;
}

// A clone is the file at one moment, and reading it is what is hashed.
static int try_clone(struct pass *p, struct error *err)
{
	struct outputs_sync *s = p->s;
	int rc = s->target->ops->clone(s->target, p->e->path, p->fd, err);
	if (rc <= 0)
		return rc;
	struct stat st;
	cleanup_fd int fd = s->target->ops->read(s->target, NULL, err);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fd < 0 ? -1 : error_set_errno(err, errno, "look at the copy");
	if (outputs_chunks_of((uint64_t)st.st_size) > OUTPUTS_CHUNKS_MAX)
		return error_set(err, ERROR_LIMIT, "it grows beyond what can be copied");
	close_fdp(&p->fd);
	p->fd = steal_fd(&fd);
	p->now.size = (uint64_t)st.st_size;
	p->mode = CLONED;
	return 0;
}

static int begin(struct pass *p, struct error *err)
{
	if (find_old(p, err) < 0)
		return -1;
	bool large = outputs_chunks_of(p->now.size) > 1;
	if (!p->old.items && large) {
		if (try_clone(p, err) < 0)
			return -1;
		if (p->mode != CLONED && begin_part(p, 0, err) < 0)
			return -1;
	} else if (!p->old.items && begin_part(p, 0, err) < 0) {
		return -1;
	}
	p->first = large ? first_to_look_at(p) : 0;
	p->unchunked =
		large && !p->old.items && !p->part.items && (p->mode == CLONED || !p->sparse);
	p->new.items = xcalloc(outputs_chunks_of(p->now.size) + 1, SHA256_SIZE); // after a clone
	return 0;
}

static int transfer(struct pass *p, struct error *err)
{
	int rc = is_as_sent(p, err);
	if (rc)
		return rc < 0 ? -1 : finish(p, err);
	if (begin(p, err) < 0)
		return -1;
	rc = outputs_chunks_of(p->now.size) > 1 ? copy_large(p, err) : copy_small(p, err);
	if (rc > 0) {
		outputs_skip(p->s, p->e->path, "it could not be read", true);
		return p->mode == APPEND
			       ? error_set(err, ERROR_SYSTEM, "%s could not be read", p->e->path)
			       : 1;
	}
	return rc < 0 ? -1 : finish(p, err);
}

int outputs_send(struct outputs_sync *s, struct outputs_entry *e, struct error *err)
{
	__attribute__((cleanup(pass_release))) struct pass p = {.s = s, .e = e, .fd = -1};
	if (!open_source(&p) || !is_within_limits(&p))
		return 0;
	bool there = e->kind == OUTPUTS_FILE && e->content.flags & OUTPUTS_PRESENT;
	uint64_t before = there ? e->content.sent.size : 0;
	int rc = transfer(&p, err);
	if (rc < 0 && p.mode == APPEND)
		e->content.flags |= OUTPUTS_SUSPECT;
	if (rc < 0)
		return error_context(err, "%s", e->path);
	if (rc > 0)
		return 0;
	uint32_t first = record(&p);
	s->status.files += !there;
	s->status.bytes += e->content.sent.size - before;
	return outputs_index_note(&s->index, e, first, err);
}
