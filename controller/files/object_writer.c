// SPDX-License-Identifier: Apache-2.0
#include "controller/files/object_writer.h"

#include "base/sha256.h"
#include "controller/files/strays.h"

#include <stdio.h>

enum { PARTS_MAX = OBJECT_MAX / OBJECT_PART };

struct object_writer {
	struct s3 *s3;
	struct database *db;
	char name[BLOB_ID_SIZE], key[OBJECT_KEY_SIZE];
	struct buffer data;   // of the part that is being filled
	struct buffer hashes; // of blocks
	uint64_t size;
	bool noted; // among the strays
	char upload[S3_UPLOAD_SIZE];
	char (*etags)[S3_ETAG_SIZE]; // NULL: no upload of parts
	unsigned parts;
};

void object_key(const char *name, char key[OBJECT_KEY_SIZE])
{
	snprintf(key, OBJECT_KEY_SIZE, "%.2s/%s", name, name);
}

struct object_writer *object_writer_new(struct s3 *s3, struct database *db)
{
	struct object_writer *w = xcalloc(1, sizeof(*w));
	w->s3 = s3;
	w->db = db;
	blob_id_make(w->name);
	object_key(w->name, w->key);
	return w;
}

uint64_t object_writer_size(const struct object_writer *w)
{
	return w->size;
}

// Parts but the last are whole blocks.
static void hash_blocks(struct object_writer *w)
{
	for (size_t at = 0; at < w->data.size; at += PIECE_BLOCK) {
		uint8_t digest[SHA256_SIZE];
		size_t left = w->data.size - at;
		sha256_of(w->data.data + at, left < PIECE_BLOCK ? left : PIECE_BLOCK, digest);
		buffer_append(&w->hashes, digest, sizeof(digest));
	}
}

static int note(struct object_writer *w, const char *upload, struct error *err)
{
	if (stray_add(w->db, w->name, upload, err) < 0)
		return -1;
	w->noted = true;
	return 0;
}

static int begin_parts(struct object_writer *w, struct error *err)
{
	if (s3_upload_begin(w->s3, w->key, w->upload, err) < 0)
		return -1;
	if (note(w, w->upload, err) < 0) {
		struct error ignored;
		s3_upload_abort(w->s3, w->key, w->upload, &ignored);
		return -1;
	}
	w->etags = xcalloc(PARTS_MAX, sizeof(*w->etags));
	return 0;
}

static int send_part(struct object_writer *w, struct error *err)
{
	if (!w->etags && begin_parts(w, err) < 0)
		return -1;
	hash_blocks(w);
	if (s3_upload_part(w->s3, w->key, w->upload, w->parts + 1, w->data.data, w->data.size,
		    w->etags[w->parts], err) < 0)
		return -1;
	w->parts++;
	buffer_clear(&w->data);
	return 0;
}

int object_writer_add(struct object_writer *w, const void *data, size_t size, struct error *err)
{
	const char *from = data;
	if (w->size + size > OBJECT_MAX)
		return error_set(err, ERROR_LIMIT, "an object may have %d MiB", OBJECT_MAX >> 20);
	while (size) {
		if (w->data.size == OBJECT_PART && send_part(w, err) < 0)
			return -1;
		size_t room = OBJECT_PART - w->data.size, n = size < room ? size : room;
		buffer_append(&w->data, from, n);
		from += n;
		size -= n;
		w->size += n;
	}
	return 0;
}

static int put_whole(struct object_writer *w, struct error *err)
{
	hash_blocks(w);
	return note(w, NULL, err) < 0 ? -1 : s3_put(w->s3, w->key, w->data.data, w->data.size, err);
}

static int end_parts(struct object_writer *w, struct error *err)
{
	if (w->data.size && send_part(w, err) < 0)
		return -1;
	return s3_upload_end(w->s3, w->key, w->upload, (const char(*)[S3_ETAG_SIZE])w->etags,
		w->parts, w->size, err);
}

int object_writer_end(struct object_writer *w, struct piece *p, struct error *err)
{
	if ((w->etags ? end_parts(w, err) : put_whole(w, err)) < 0)
		return -1;
	p->size = w->size;
	p->object = w->name;
	p->data = w->hashes.data;
	p->data_size = w->hashes.size;
	return 0;
}

void object_writer_free(struct object_writer *w, bool kept)
{
	struct error ignored;
	if (!w)
		return;
	// If this fails, it goes when its time is over.
	if (w->noted && !kept)
		stray_doom(w->db, w->name, &ignored);
	buffer_release(&w->data);
	buffer_release(&w->hashes);
	free(w->etags);
	free(w);
}
