// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"
#include "controller/files/blobs_s3.h"

#include <string.h>

enum {
	ROWS = 80,
	AHEAD = 4, // blocks by one request, where the one before was read as well
};

static int damaged(const char *blob, const struct piece *p, const char *what, struct error *err)
{
	log_error("files: blob %s, bytes from %llu on: object %s %s", blob,
		(unsigned long long)p->start, p->object ? p->object : "in the table", what);
	return error_set(err, ERROR_SYSTEM, "files: an object is damaged");
}

static uint64_t blocks_of(uint64_t size)
{
	return (size + PIECE_BLOCK - 1) / PIECE_BLOCK;
}

// Which blocks by one request: one, or some when it looks as if all were wanted.
static size_t how_many(struct s3_store *s, const char *blob, const struct piece *p, uint64_t block)
{
	uint64_t place = p->start + block * PIECE_BLOCK, left = blocks_of(p->size) - block;
	bool ahead = blocks_of(p->size) <= AHEAD ||
		     (place && block_cache_has(s->cache, blob, place - 1));
	return !ahead ? 1 : left < AHEAD ? (size_t)left : AHEAD;
}

static bool is_right(const struct piece *p, uint64_t block, const char *data, size_t size)
{
	uint8_t digest[SHA256_SIZE];
	sha256_of(data, size, digest);
	return memcmp((const uint8_t *)p->data + block * SHA256_SIZE, digest, sizeof(digest)) == 0;
}

// ERROR_NOT_FOUND and ERROR_INTEGRITY are for another try.
static int fetch(struct s3_store *s, const char *blob, const struct piece *p, uint64_t block,
	struct error *err)
{
	char key[OBJECT_KEY_SIZE];
	cleanup_buffer struct buffer b = {0};
	uint64_t first = block * PIECE_BLOCK, left = p->size - first;
	size_t size = how_many(s, blob, p, block) * (size_t)PIECE_BLOCK;
	if (left < size)
		size = (size_t)left;
	object_key(p->object, key);
	if (s3_get(s->s3, key, first, size, &b, err) < 0)
		return -1;
	for (size_t at = 0; at < size; at += PIECE_BLOCK) {
		size_t n = size - at < PIECE_BLOCK ? size - at : PIECE_BLOCK;
		if (!is_right(p, block + at / PIECE_BLOCK, b.data + at, n))
			return error_set(err, ERROR_INTEGRITY, "bytes are not what was written");
	}
	// Backwards: the first is to be the last to go.
	for (size_t i = blocks_of(size); i-- > 0;) {
		size_t at = i * PIECE_BLOCK, n = size - at < PIECE_BLOCK ? size - at : PIECE_BLOCK;
		block_cache_put(s->cache, blob, p->start + first + at, b.data + at, n);
	}
	return 0;
}

static int64_t read_object(struct s3_store *s, const char *blob, const struct piece *p,
	uint64_t offset, void *data, size_t size, struct error *err)
{
	if (p->data_size != blocks_of(p->size) * SHA256_SIZE)
		return damaged(blob, p, "has no hashes", err);
	if (fetch(s, blob, p, (offset - p->start) / PIECE_BLOCK, err) < 0)
		return -1;
	size_t n = block_cache_get(s->cache, blob, offset, data, size);
	return n ? (int64_t)n : error_set(err, ERROR_UNAVAILABLE, "files: too many readers");
}

static int64_t read_rows(const char *blob, const struct piece *p, size_t count, uint64_t offset,
	char *data, size_t size, struct error *err)
{
	size_t done = 0;
	for (size_t i = 0; i < count && done < size && !p[i].object; i++) {
		if (p[i].data_size != p[i].size || p[i].start > offset + done)
			return damaged(blob, &p[i], "has other bytes", err);
		size_t skipped = (size_t)(offset + done - p[i].start);
		size_t left = (size_t)p[i].size - skipped;
		size_t n = left < size - done ? left : size - done;
		memcpy(data + done, (const char *)p[i].data + skipped, n);
		done += n;
	}
	return (int64_t)done;
}

int64_t s3_store_read(struct s3_store *s, const char *blob, uint64_t offset, void *data,
	size_t size, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct piece *p;
	size_t count, known = block_cache_get(s->cache, blob, offset, data, size);
	if (known || !size)
		return (int64_t)known;
	for (bool again = false;; again = true) {
		if (pieces_find(s->db, &a, blob, offset, ROWS, &p, &count, err) < 0)
			return -1;
		if (!count)
			return 0;
		if (!p->object)
			return read_rows(blob, p, count, offset, data, size, err);
		int64_t n = read_object(s, blob, p, offset, data, size, err);
		if (n >= 0 || (err->kind != ERROR_NOT_FOUND && err->kind != ERROR_INTEGRITY))
			return n;
		// It may have been joined to others meanwhile, or harmed on its way.
		if (again)
			return damaged(blob, p,
				err->kind == ERROR_NOT_FOUND ? "is gone" : "has other bytes", err);
	}
}

int s3_store_gather(struct s3_store *s, const char *blob, uint64_t from, uint64_t to,
	struct object_writer *w, struct error *err)
{
	cleanup_free char *piece = xmalloc(PIECE_BLOCK);
	while (from < to) {
		size_t n = to - from < PIECE_BLOCK ? (size_t)(to - from) : PIECE_BLOCK;
		int64_t got = s3_store_read(s, blob, from, piece, n, err);
		if (got == 0)
			error_set(err, ERROR_UNAVAILABLE,
				"another controller has changed this file meanwhile");
		if (got <= 0 || object_writer_add(w, piece, (size_t)got, err) < 0)
			return -1;
		from += (uint64_t)got;
	}
	return 0;
}
