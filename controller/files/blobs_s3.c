// SPDX-License-Identifier: Apache-2.0
//
// Blobs as objects of an S3-compatible store, which knows no appends: what is appended is a piece
// of its own, in an object when it is large, at first in the database when it is small
// (docs/adr/0019-appends-on-s3.md).
#include "controller/files/blobs_s3.h"

#include "base/text.h"

#include <stdio.h>

enum {
	FOLD = 256 * 1024, // so much at the end of a blob becomes an object
	TAIL_ROWS = 64,	   // then they become one row
	JOIN_OBJECTS = 64,
	JOIN_BYTES = 64 * 1024 * 1024,
};

struct blob_handle {
	struct s3_store *store;
	char id[BLOB_ID_SIZE];
	struct pieces_end end;	     // of what is committed
	struct buffer small;	     // what came since, while it is little
	struct object_writer *large; // or the tail of the blob and what came since; has a slot
	bool failed;
	struct blob_handle *next;
};

// ---- appending

// Others in this process wait for the writer; who writes through another controller is found out
// when it is committed.
static bool enter(struct s3_store *s, struct blob_handle *h)
{
	pthread_mutex_lock(&s->lock);
	const struct blob_handle *other = s->writers;
	while (other && !streq(other->id, h->id))
		other = other->next;
	if (!other) {
		h->next = s->writers;
		s->writers = h;
	}
	pthread_mutex_unlock(&s->lock);
	return !other;
}

static void leave(struct s3_store *s, struct blob_handle *h)
{
	pthread_mutex_lock(&s->lock);
	struct blob_handle **at = &s->writers;
	while (*at != h)
		at = &(*at)->next;
	*at = h->next;
	pthread_mutex_unlock(&s->lock);
	free(h);
}

static int begin(struct blob_store *store, const char *id, struct blob_handle **handle,
	uint64_t *size, struct error *err)
{
	struct s3_store *s = (struct s3_store *)store;
	struct blob_handle *h = xcalloc(1, sizeof(*h));
	h->store = s;
	snprintf(h->id, sizeof(h->id), "%s", id);
	if (!enter(s, h)) {
		free(h);
		return 1;
	}
	if (pieces_look(s->db, id, &h->end, err) < 0) {
		leave(s, h);
		return -1;
	}
	*size = h->end.size;
	*handle = h;
	return 0;
}

static uint64_t tail_size(const struct blob_handle *h)
{
	return h->end.size - h->end.tail_start;
}

static void drop_large(struct blob_handle *h, bool kept)
{
	if (!h->large)
		return;
	object_writer_free(steal(h->large), kept);
	s3_store_give_slot(h->store);
}

static int become_large(struct blob_handle *h, struct error *err)
{
	struct s3_store *s = h->store;
	if (s3_store_take_slot(s, err) < 0)
		return -1;
	h->large = object_writer_new(s->s3, s->db);
	if (s3_store_gather(s, h->id, h->end.tail_start, h->end.size, h->large, err) < 0 ||
		object_writer_add(h->large, h->small.data, h->small.size, err) < 0)
		return -1;
	buffer_release(&h->small);
	return 0;
}

static int commit_large(struct blob_handle *h, struct error *err)
{
	struct pieces_end *e = &h->end;
	struct pieces_change c = {.blob = h->id,
		.appends = true,
		.size = e->size,
		.from = e->tail_start,
		.to = e->size,
		.replaced = e->tail_rows,
		.piece = {.start = e->tail_start}};
	if (object_writer_end(h->large, &c.piece, err) < 0 || pieces_put(h->store->db, &c, err) < 0)
		return -1;
	e->size = e->tail_start = c.piece.start + c.piece.size;
	e->tail_rows = 0;
	bool small = c.piece.size < PIECE_SMALL;
	e->small_objects = small ? e->small_objects + 1 : 0;
	e->small_bytes = small ? e->small_bytes + c.piece.size : 0;
	drop_large(h, true);
	return 0;
}

static int read_all(
	struct s3_store *s, const char *id, uint64_t from, char *to, size_t size, struct error *err)
{
	for (size_t done = 0; done < size;) {
		int64_t got = s3_store_read(s, id, from + done, to + done, size - done, err);
		if (got <= 0)
			return got < 0 ? -1
				       : error_set(err, ERROR_UNAVAILABLE,
						 "files: the blob has changed meanwhile");
		done += (size_t)got;
	}
	return 0;
}

// One more row, or one in place of them all.
static int commit_small(struct blob_handle *h, struct error *err)
{
	struct pieces_end *e = &h->end;
	cleanup_buffer struct buffer all = {0};
	struct pieces_change c = {.blob = h->id,
		.appends = true,
		.size = e->size,
		.piece = {.start = e->size, .data = h->small.data, .data_size = h->small.size}};
	if (e->tail_rows >= TAIL_ROWS) {
		size_t before = (size_t)tail_size(h);
		char *to = buffer_reserve(&all, before);
		if (read_all(h->store, h->id, e->tail_start, to, before, err) < 0)
			return -1;
		buffer_commit(&all, before);
		buffer_append(&all, h->small.data, h->small.size);
		c.from = e->tail_start;
		c.to = e->size;
		c.replaced = e->tail_rows;
		c.piece = (struct piece){
			.start = e->tail_start, .data = all.data, .data_size = all.size};
	}
	c.piece.size = c.piece.data_size;
	if (pieces_put(h->store->db, &c, err) < 0)
		return -1;
	e->size += h->small.size;
	buffer_release(&h->small);
	return 0;
}

static int write_some(struct blob_handle *h, const void *data, size_t size, struct error *err)
{
	if (h->large && object_writer_size(h->large) + size > OBJECT_MAX &&
		commit_large(h, err) < 0)
		return -1;
	if (!h->large && tail_size(h) + h->small.size + size > FOLD && become_large(h, err) < 0)
		return -1;
	if (h->large)
		return object_writer_add(h->large, data, size, err);
	buffer_append(&h->small, data, size);
	return 0;
}

static int write_bytes(struct blob_handle *h, const void *data, size_t size, struct error *err)
{
	int rc = write_some(h, data, size, err);
	h->failed |= rc < 0;
	return rc;
}

static int commit(struct blob_handle *h, bool durable, struct error *err)
{
	if (h->failed)
		return error_set(err, ERROR_UNAVAILABLE, "files: what came was not kept");
	bool much = tail_size(h) + h->small.size > S3_STORE_INLINE;
	if (durable && !h->large && h->small.size && much && become_large(h, err) < 0)
		return -1;
	if (h->large)
		return commit_large(h, err);
	return h->small.size ? commit_small(h, err) : 0;
}

static int end(struct blob_handle *h, bool durable, uint64_t *size, struct error *err)
{
	struct s3_store *s = h->store;
	struct error ignored;
	int rc = commit(h, durable, err);
	drop_large(h, false);
	buffer_release(&h->small);
	if (rc == 0)
		*size = h->end.size;
	// If it fails it is done by the next.
	if (rc == 0 && (h->end.small_objects >= JOIN_OBJECTS || h->end.small_bytes >= JOIN_BYTES))
		s3_store_join(s, h->id, false, &ignored);
	leave(s, h);
	return rc;
}

// ---- the rest

static int size_of(struct blob_store *store, const char *id, uint64_t *size, struct error *err)
{
	struct pieces_end e;
	if (pieces_look(((struct s3_store *)store)->db, id, &e, err) < 0)
		return -1;
	*size = e.size;
	return 0;
}

static int64_t read_bytes(struct blob_store *store, const char *id, uint64_t offset, void *data,
	size_t size, struct error *err)
{
	return s3_store_read((struct s3_store *)store, id, offset, data, size, err);
}

static int no_descriptor(struct blob_store *store, const char *id)
{
	(void)store;
	(void)id;
	return -1;
}

// All that is there is durable; this is the end of a file, after which nothing small needs to stay.
static int sync_blob(struct blob_store *store, const char *id, struct error *err)
{
	return s3_store_join((struct s3_store *)store, id, true, err);
}

static int remove_blob(struct blob_store *store, const char *id, struct error *err)
{
	return pieces_remove(((struct s3_store *)store)->db, id, err);
}

struct blob_store *blob_s3_open(const char *where, struct database *db, struct error *err)
{
	static const struct blob_store_ops ops = {
		.ping = s3_store_ping,
		.size = size_of,
		.begin = begin,
		.write = write_bytes,
		.end = end,
		.read = read_bytes,
		.open = no_descriptor,
		.sync = sync_blob,
		.remove = remove_blob,
		.free = s3_store_free,
	};
	struct s3_store *s = s3_store_open(where, db, err);
	if (!s)
		return NULL;
	s->store.ops = &ops;
	return &s->store;
}
