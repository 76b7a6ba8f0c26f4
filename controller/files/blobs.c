// SPDX-License-Identifier: Apache-2.0
#include "controller/files/blobs.h"

#include "base/time.h"
#include "controller/files/blobs_hash.h"
#include "controller/files/blobs_hasher.h"
#include "controller/files/blobs_internal.h"
#include "controller/files/s3_address.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum {
	WRITER_WAIT_MS = 10 * 1000,
	WRITER_POLL_MS = 5,
	PIECE = 1024 * 1024,
	LARGE = 1024 * 1024, // an append from which on a thread beside pays
};

struct blobs {
	struct blob_store *store;
	struct blob_hashes *hashes;
};

struct blob_writer {
	struct blobs *blobs;
	struct blob_handle *handle;
	struct sha256 *hash;	    // NULL: not known, or the hasher's
	struct blob_hasher *hasher; // of a large append, else NULL
	size_t gathered;	    // bytes in its block
	bool failed;		    // a write has: what is gathered is lost
	uint64_t size;
	char id[BLOB_ID_SIZE];
};

struct blobs *blobs_open(const char *where, struct database *db, struct error *err)
{
	if (strstr(where, "://") && !s3_address_is(where)) {
		error_set(err, ERROR_INVALID, "files: %s: name a folder or s3://BUCKET/PREFIX",
			where);
		return NULL;
	}
	struct blob_store *store =
		s3_address_is(where) ? blob_s3_open(where, db, err) : blob_folder_open(where, err);
	if (!store)
		return NULL;
	sha256_prepare();
	struct blobs *b = xcalloc(1, sizeof(*b));
	*b = (struct blobs){.store = store, .hashes = blob_hashes_new()};
	return b;
}

void blobs_close(struct blobs *b)
{
	if (!b)
		return;
	b->store->ops->free(b->store);
	blob_hashes_free(b->hashes);
	free(b);
}

int blobs_ping(struct blobs *b, struct error *err)
{
	return b->store->ops->ping(b->store, err);
}

void blob_id_make(char id[BLOB_ID_SIZE])
{
	uint8_t random[(BLOB_ID_SIZE - 1) / 2];
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		abort(); // it cannot fail for so few bytes once the kernel has any
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(id + 2 * i, 3, "%02x", random[i]);
}

int blob_size(struct blobs *b, const char *id, uint64_t *size, struct error *err)
{
	return b->store->ops->size(b->store, id, size, err);
}

// ---- appending

static int become_writer(struct blobs *b, const char *id, struct blob_handle **handle,
	uint64_t *size, struct error *err)
{
	int64_t until = now_ms() + WRITER_WAIT_MS;
	for (;;) {
		int rc = b->store->ops->begin(b->store, id, handle, size, err);
		if (rc <= 0)
			return rc;
		if (now_ms() > until)
			return error_set(
				err, ERROR_UNAVAILABLE, "another request is writing this file");
		sleep_ms(WRITER_POLL_MS);
	}
}

int blob_append(struct blobs *b, const char *id, uint64_t offset, struct blob_writer **writer,
	uint64_t *size, struct error *err)
{
	struct blob_handle *handle;
	uint64_t there;
	if (become_writer(b, id, &handle, &there, err) < 0)
		return -1;
	if (there != offset) {
		*size = there;
		return b->store->ops->end(handle, false, &there, err) < 0 ? -1 : 1;
	}
	struct blob_writer *w = xcalloc(1, sizeof(*w));
	*w = (struct blob_writer){.blobs = b,
		.handle = handle,
		.hash = blob_hashes_take(b->hashes, id, there),
		.size = there};
	snprintf(w->id, sizeof(w->id), "%s", id);
	*writer = w;
	return 0;
}

void blob_expect(struct blob_writer *w, uint64_t size)
{
	if (size < LARGE || w->hasher)
		return;
	w->hasher = blob_hasher_new(w->hash);
	if (w->hasher)
		w->hash = NULL; // it has it
}

static int write_now(struct blob_writer *w, const void *data, size_t size, struct error *err)
{
	if (w->failed)
		return error_set(err, ERROR_SYSTEM, "a write before has failed");
	w->failed = w->blobs->store->ops->write(w->handle, data, size, err) < 0;
	if (w->failed)
		return -1;
	w->size += size;
	return 0;
}

static int write_gathered(struct blob_writer *w, struct error *err)
{
	size_t size = w->gathered;
	w->gathered = 0;
	if (size && write_now(w, blob_hasher_block(w->hasher), size, err) < 0)
		return -1;
	if (size)
		blob_hasher_give(w->hasher, size);
	return 0;
}

static int gather(struct blob_writer *w, const char *data, size_t size, struct error *err)
{
	while (size) {
		size_t room = BLOB_BLOCK - w->gathered, n = size < room ? size : room;
		memcpy(blob_hasher_block(w->hasher) + w->gathered, data, n);
		w->gathered += n;
		data += n;
		size -= n;
		if (w->gathered == BLOB_BLOCK && write_gathered(w, err) < 0)
			return -1;
	}
	return 0;
}

int blob_write(struct blob_writer *w, const void *data, size_t size, struct error *err)
{
	if (w->hasher)
		return gather(w, data, size, err);
	if (write_now(w, data, size, err) < 0)
		return -1;
	if (w->hash)
		sha256_update(w->hash, data, size);
	return 0;
}

// What the store says is there counts: after a failed write that is less than was handed to it, or
// more than the hash has seen.
int blob_finish(struct blob_writer *w, bool durable, uint64_t *size, struct error *err)
{
	struct error second;
	int written = w->hasher && !w->failed ? write_gathered(w, err) : 0;
	int rc = w->blobs->store->ops->end(w->handle, durable, size, written < 0 ? &second : err);
	if (w->hasher)
		w->hash = blob_hasher_end(w->hasher);
	if (rc == 0 && *size == w->size && w->hash && w->size)
		blob_hashes_put(w->blobs->hashes, w->id, w->size, steal(w->hash));
	sha256_free(w->hash);
	free(w);
	return written < 0 ? -1 : rc;
}

int blob_copy(struct blobs *b, const char *from, uint64_t offset, uint64_t size, const char *to,
	uint64_t *at_size, struct error *err)
{
	struct blob_writer *w;
	int rc = blob_append(b, to, *at_size, &w, at_size, err);
	if (rc)
		return rc;
	cleanup_free char *piece = xmalloc(PIECE);
	for (uint64_t done = 0; rc == 0 && done < size;) {
		size_t n = size - done < PIECE ? (size_t)(size - done) : PIECE;
		int64_t got = blob_read(b, from, offset + done, piece, n, err);
		if (got == 0)
			error_set(err, ERROR_INTEGRITY, "the file has no such range");
		rc = got <= 0 ? -1 : blob_write(w, piece, (size_t)got, err);
		done += got > 0 ? (uint64_t)got : 0;
	}
	struct error second;
	return blob_finish(w, false, at_size, rc < 0 ? &second : err) < 0 ? -1 : rc;
}

// ---- reading

int64_t blob_read(struct blobs *b, const char *id, uint64_t offset, void *data, size_t size,
	struct error *err)
{
	return b->store->ops->read(b->store, id, offset, data, size, err);
}

int blob_open(struct blobs *b, const char *id)
{
	return b->store->ops->open(b->store, id);
}

static int hash_again(
	struct blobs *b, const char *id, uint64_t size, struct sha256 *h, struct error *err)
{
	cleanup_free char *piece = xmalloc(PIECE);
	for (uint64_t done = 0; done < size;) {
		size_t n = size - done < PIECE ? (size_t)(size - done) : PIECE;
		int64_t got = blob_read(b, id, done, piece, n, err);
		if (got < 0)
			return -1;
		if (got == 0)
			return error_set(err, ERROR_INTEGRITY, "only %llu of %llu bytes are there",
				(unsigned long long)done, (unsigned long long)size);
		sha256_update(h, piece, (size_t)got);
		done += (uint64_t)got;
	}
	return 0;
}

int blob_sha256(struct blobs *b, const char *id, uint64_t size, char hex[SHA256_HEX_SIZE],
	struct error *err)
{
	uint8_t digest[SHA256_SIZE];
	cleanup_sha256 struct sha256 *h = blob_hashes_take(b->hashes, id, size);
	if (!h) {
		h = sha256_new();
		if (hash_again(b, id, size, h, err) < 0)
			return -1;
	}
	sha256_final(h, digest);
	sha256_hex(digest, hex);
	return 0;
}

int blob_sync(struct blobs *b, const char *id, struct error *err)
{
	return b->store->ops->sync(b->store, id, err);
}

int blob_remove(struct blobs *b, const char *id, struct error *err)
{
	return b->store->ops->remove(b->store, id, err);
}
