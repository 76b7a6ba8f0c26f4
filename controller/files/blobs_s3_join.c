// SPDX-License-Identifier: Apache-2.0
#include "controller/files/blobs_s3.h"

enum { ROWS = 200, RUN_BYTES = 64 * 1024 * 1024 };

struct run {
	uint64_t from, to;
	size_t count;
};

// Pieces that lie side by side, from the first on; those in the table only of what is finished.
static struct run measure(const struct piece *p, size_t count, bool finished)
{
	struct run r = {.from = p->start, .to = p->start};
	for (; r.count < count && p[r.count].start == r.to && r.to - r.from < RUN_BYTES;
		r.count++) {
		if (!p[r.count].object && !finished)
			break;
		r.to += p[r.count].size;
	}
	return r;
}

static bool is_worth_it(const struct run *r, const struct piece *p)
{
	return r->count > 1 ? r->to - r->from > S3_STORE_INLINE || p->object != NULL
			    : r->count == 1 && !p->object && p->size > S3_STORE_INLINE;
}

static int join_into(struct s3_store *s, const char *blob, const struct run *r,
	struct object_writer *w, struct error *err)
{
	struct pieces_change c = {.blob = blob, .from = r->from, .to = r->to, .replaced = r->count};
	c.piece.start = r->from;
	return s3_store_gather(s, blob, r->from, r->to, w, err) < 0 ||
			       object_writer_end(w, &c.piece, err) < 0
		       ? -1
		       : pieces_put(s->db, &c, err);
}

static int join_run(struct s3_store *s, const char *blob, const struct run *r, struct error *err)
{
	if (s3_store_take_slot(s, err) < 0)
		return -1;
	struct object_writer *w = object_writer_new(s->s3, s->db);
	int rc = join_into(s, blob, r, w, err);
	object_writer_free(w, rc == 0);
	s3_store_give_slot(s);
	return rc;
}

int s3_store_join(struct s3_store *s, const char *blob, bool finished, struct error *err)
{
	for (uint64_t start = 0;;) {
		cleanup_arena struct arena a = {0};
		struct piece *p;
		size_t count;
		if (pieces_find_small(s->db, &a, blob, start, ROWS, &p, &count, err) < 0)
			return -1;
		if (!count)
			return 0;
		struct run r = measure(p, count, finished);
		if (is_worth_it(&r, p) && join_run(s, blob, &r, err) < 0)
			return -1;
		start = r.count ? r.to : p->start + p->size;
	}
}
