// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/gzip_writer.h"
#include "oci/layer/tree_reader.h"
#include "oci/registry/fetcher.h"
#include "oci/store/push_internal.h"

#include <unistd.h>

enum { CHUNK = 512 * 1024 };

void push_blob_drop(struct store *s, struct push_blob *b)
{
	struct error ignored;
	if (b->name[0])
		directory_remove(s->tmp_fd, b->name, &ignored);
	if (b->part)
		store_part_remove(s, &b->digest);
	close_fdp(&b->fd);
	*b = (struct push_blob){.fd = -1};
}

// ---- from the layer itself

struct compression {
	struct gzip_writer *gzip;
	struct sha256 *plain, *packed;
	struct buffer out;
	uint64_t plain_size, packed_size;
	char *chunk;
};

static void compression_release(struct compression *c)
{
	gzip_writer_free(c->gzip);
	sha256_free(c->plain);
	sha256_free(c->packed);
	buffer_release(&c->out);
	free(c->chunk);
}
#define cleanup_compression __attribute__((cleanup(compression_release)))

static int compress_chunk(
	struct compression *c, const char *data, size_t size, int fd, struct error *err)
{
	if (size)
		sha256_update(c->plain, data, size);
	c->plain_size += size;
	if (gzip_writer_run(c->gzip, data, size, size == 0, &c->out, err) < 0)
		return -1;
	if (c->out.size) {
		sha256_update(c->packed, c->out.data, c->out.size);
		if (write_all(fd, c->out.data, c->out.size, "the compressed layer", err) < 0)
			return -1;
	}
	c->packed_size += c->out.size;
	buffer_clear(&c->out);
	return 0;
}

bool push_canceled(const struct push_options *o, struct error *err)
{
	const struct push_events *e = o->events;
	return e->canceled && e->canceled(e->data, err);
}

static int compress_archive(const struct push_options *o, struct compression *c,
	struct tree_reader *r, int fd, void (*progress)(void *data, uint64_t bytes), void *data,
	struct error *err)
{
	for (;;) {
		ssize_t n = read(r->archive_fd, c->chunk, CHUNK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, errno, "read the layer's archive");
		if (push_canceled(o, err))
			return -1;
		if (compress_chunk(c, c->chunk, (size_t)n, fd, err) < 0)
			return -1;
		progress(data, c->plain_size);
		if (n == 0)
			return tree_reader_finish(r, err);
	}
}

static int compress_tree(const struct push_options *o, int tree, const struct store_layer *layer,
	void (*progress)(void *data, uint64_t bytes), void *data, struct push_blob *b,
	struct error *err)
{
	cleanup_compression struct compression c = {.gzip = gzip_writer_new(),
		.plain = sha256_new(),
		.packed = sha256_new(),
		.chunk = xmalloc(CHUNK)};
	cleanup_tree_reader struct tree_reader r = {
		.archive_fd = -1, .socket = -1, .process = {.pidfd = -1}};
	uint8_t hash[SHA256_SIZE];
	if (tree_reader_start(tree, &layer_limits_default, &r, err) < 0 ||
		compress_archive(o, &c, &r, b->fd, progress, data, err) < 0)
		return -1;
	sha256_final(c.plain, hash);
	struct oci_digest diff_id = oci_digest_from_sha256(hash);
	if (!oci_digest_equal(&diff_id, &layer->diff_id))
		return error_set(err, ERROR_INTEGRITY,
			"its archive has the digest %s: the layer was not made here, or is damaged",
			diff_id.text);
	sha256_final(c.packed, hash);
	b->digest = oci_digest_from_sha256(hash);
	b->size = c.packed_size;
	return 0;
}

int push_compress(struct store *s, const struct push_options *o, const struct store_layer *layer,
	void (*progress)(void *data, uint64_t bytes), void *data, struct push_blob *b,
	struct error *err)
{
	struct push_blob made = {.fd = -1};
	uint64_t bytes;
	cleanup_fd int tree = -1;
	// A third of the layer, as layers go; it may be more, and then the disk says so.
	if (store_layer_bytes(layer, &bytes, err) < 0 ||
		store_make_room(s, bytes / 3, 8, err) < 0 ||
		o->open_layer(o->open_data, layer, &tree, err) < 0 ||
		store_temporary(s, false, &made.fd, made.name, err) < 0)
		return -1;
	if (compress_tree(o, tree, layer, progress, data, &made, err) < 0) {
		push_blob_drop(s, &made);
		return error_context(err, "layer %s", layer->diff_id.text);
	}
	*b = made;
	return 0;
}

// ---- from the registry that the base is in

struct fetching {
	struct loop *loop;
	struct fetcher *fetcher;
	const struct push_options *o;
	void (*progress)(void *data, uint64_t bytes);
	void *data;
	struct error error;
};

static void fetching_release(struct fetching *f)
{
	fetcher_free(f->fetcher);
	loop_free(f->loop);
}
#define cleanup_fetching __attribute__((cleanup(fetching_release)))

static void on_progress(void *data, uint64_t contiguous, uint64_t fetched)
{
	struct fetching *f = data;
	(void)fetched;
	f->progress(f->data, contiguous);
	if (push_canceled(f->o, &f->error))
		loop_quit(f->loop, 1);
}

static void on_notice(void *data, const char *text)
{
	const struct push_events *e = ((struct fetching *)data)->o->events;
	if (e->notice)
		e->notice(e->data, text);
}

static void on_done(void *data, const struct error *err)
{
	struct fetching *f = data;
	if (err)
		f->error = *err;
	loop_quit(f->loop, err ? 1 : 0);
}

static int fetch(
	struct fetching *f, const struct oci_descriptor *d, int fd, int map_fd, struct error *err)
{
	static const struct fetcher_blob_events events = {on_progress, on_notice, on_done};
	if (!(f->loop = loop_new(err)) ||
		!(f->fetcher = fetcher_start(f->loop, f->o->registries, f->o->source, err)))
		return -1;
	fetcher_blob(f->fetcher, &d->digest, d->size, fd, map_fd, &events, f);
	int ended = loop_run(f->loop, err);
	if (ended > 0)
		*err = f->error;
	return ended ? -1 : 0;
}

int push_fetch(struct store *s, const struct push_options *o, const struct oci_descriptor *d,
	void (*progress)(void *data, uint64_t bytes), void *data, struct push_blob *b,
	struct error *err)
{
	cleanup_fetching struct fetching f = {.o = o, .progress = progress, .data = data};
	struct push_blob made = {.fd = -1, .digest = d->digest, .size = d->size};
	cleanup_fd int map = -1;
	if (store_make_room(s, d->size, 8, err) < 0)
		return -1;
	int busy = store_part_open(s, &d->digest, &made.fd, &map, err);
	if (busy > 0)
		return error_set(err, ERROR_UNAVAILABLE,
			"blob %s is being downloaded by another process; try again",
			d->digest.text);
	if (busy < 0)
		return -1;
	if (fetch(&f, d, made.fd, map, err) < 0) {
		push_blob_drop(s, &made); // the part stays for the next try
		return error_context(err, "fetch blob %s", d->digest.text);
	}
	made.part = true;
	*b = made;
	return 0;
}
