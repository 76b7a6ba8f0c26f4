// SPDX-License-Identifier: Apache-2.0
#include "agent/data/download_flight.h"

#include "base/text.h"
#include "base/time.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { SPACE_STEP = 16 * 1024 * 1024 };

static int fail(struct download_flight *f, enum data_failure failure)
{
	f->exchange.failure = failure;
	return -1;
}

static void notice(struct download_flight *f, const char *text)
{
	if (f->options->notice)
		f->options->notice(f->options->data, text);
}

static int make_room(struct download_flight *f, uint64_t bytes, struct error *err)
{
	int status = download_make_room(f->cache, bytes, err);
	return status > 0 ? fail(f, DATA_NO_SPACE) : status < 0 ? fail(f, DATA_FAILED) : 0;
}

static int check_size(struct download_flight *f, uint64_t size, struct error *err)
{
	const struct download_options *o = f->options;
	char text[FORMAT_SIZE_MAX], limit[FORMAT_SIZE_MAX];
	if (o->max_bytes && size > o->max_bytes) {
		error_set(err, ERROR_LIMIT, "has %s, over the limit of %s", format_size(size, text),
			format_size(o->max_bytes, limit));
		return fail(f, DATA_TOO_LARGE);
	}
	return 0;
}

// The whole comes.
static int begin_whole(struct download_flight *f, const struct download_head *h, struct error *err)
{
	const struct download_part *p = &f->part;
	bool same = streq(h->etag, p->etag) && streq(h->last_modified, p->last_modified) &&
		    (!p->sized || !h->has_length || p->size == h->length);
	if (f->met && !same)
		f->changes++;
	f->met = true;
	if (f->changes > 1) {
		error_set(err, ERROR_UNAVAILABLE,
			"changes on the server while it is downloaded; it did so twice");
		return fail(f, DATA_CHANGED);
	}
	if (f->changes && !same)
		notice(f, "it has changed on the server; from the start again");
	if (download_part_restart(&f->part, h, err) < 0)
		return fail(f, DATA_FAILED);
	f->checked = 0;
	return 0;
}

// What is missing comes: is it that?
static int begin_rest(struct download_flight *f, const struct download_head *h, struct error *err)
{
	const struct download_part *p = &f->part;
	bool fits = f->resumed && h->has_range && h->range_start == p->have &&
		    (h->range_size == UINT64_MAX || !p->sized || h->range_size == p->size) &&
		    (!*h->etag || !*p->etag || streq(h->etag, p->etag));
	if (!fits) {
		f->discard = true;
		error_set(err, ERROR_UNAVAILABLE, "answered with bytes that were not asked for");
		return -1;
	}
	f->met = true;
	f->not_whole = h->range_size == UINT64_MAX || h->range_end < h->range_size;
	if (!p->sized && h->range_size != UINT64_MAX) {
		f->part.sized = true;
		f->part.size = h->range_size;
	}
	return 0;
}

static int on_head(void *data, const struct download_head *h, struct error *err)
{
	struct download_flight *f = data;
	const struct download_part *p = &f->part;
	f->not_whole = false;
	if (h->status != 200 && h->status != 203 && h->status != 206) {
		error_set(
			err, ERROR_INVALID, "the server answered %d, which is no file", h->status);
		return fail(f, DATA_FAILED);
	}
	if ((h->status == 206 ? begin_rest(f, h, err) : begin_whole(f, h, err)) < 0)
		return -1;
	snprintf(f->result->content_type, sizeof(f->result->content_type), "%s", h->media_type);
	if (!p->sized)
		return 0;
	f->result->size = p->size;
	if (check_size(f, p->size, err) < 0)
		return -1;
	return make_room(f, p->size - p->have, err);
}

static_assert(CURL_MAX_WRITE_SIZE <= DOWNLOAD_PART_WRITE, "what curl gives at a time fits");

static int put(struct download_part *p, const char *bytes, size_t size, struct error *err)
{
	return bytes ? download_part_write(p, bytes, size, err) : download_part_flush(p, err);
}

// NULL: what is gathered.
static int write_body(struct download_flight *f, const char *bytes, size_t size, struct error *err)
{
	struct download_part *p = &f->part;
	if (put(p, bytes, size, err) == 0)
		return 0;
	// Somebody else has filled the disk.
	if (err->sys == ENOSPC || err->sys == EDQUOT) {
		// What is gathered is not on the disk either.
		uint64_t rest = p->gathered_size + (p->sized ? p->size - p->have : size);
		if (make_room(f, rest > size ? rest : size, err) < 0)
			return -1;
		if (put(p, bytes, size, err) == 0)
			return 0;
		if (err->sys == ENOSPC || err->sys == EDQUOT) {
			char text[FORMAT_SIZE_MAX];
			error_set(err, ERROR_LIMIT, "needs %s more than the disk has left",
				format_size(rest, text));
			return fail(f, DATA_NO_SPACE);
		}
	}
	return fail(f, DATA_FAILED);
}

static int on_body(void *data, const char *bytes, size_t size, struct error *err)
{
	struct download_flight *f = data;
	struct download_part *p = &f->part;
	if (p->sized && size > p->size - p->have) {
		f->discard = true;
		return error_set(err, ERROR_UNAVAILABLE, "sends more than it said");
	}
	if (check_size(f, p->have + size, err) < 0)
		return -1;
	if (p->have + size - f->checked >= SPACE_STEP) {
		uint64_t rest = p->sized ? p->size - p->have : size;
		if (make_room(f, rest, err) < 0)
			return -1;
		f->checked = p->have;
	}
	if (write_body(f, bytes, size, err) < 0)
		return -1;
	f->result->fetched += size;
	return 0;
}

static int on_tick(void *data)
{
	struct download_flight *f = data;
	const struct download_options *o = f->options;
	const struct download_part *p = &f->part;
	// Of a slow server no more than a moment's bytes are lost with this process. Where that
	// fails, the next bytes say so.
	download_part_flush(&f->part, &(struct error){0});
	return o->progress ? o->progress(o->data, p->have, p->sized ? p->size : o->size) : 0;
}

static enum download_step mismatch(struct download_flight *f, struct error *err)
{
	download_part_restart(&f->part, NULL, &(struct error){0});
	f->met = false;
	if (!f->mismatched) {
		f->mismatched = true;
		notice(f, err->text);
		return DOWNLOAD_AGAIN;
	}
	download_part_remove(&f->part);
	fail(f, DATA_CHECKSUM);
	return DOWNLOAD_FAILED;
}

static enum download_step finish(struct download_flight *f, struct error *err)
{
	const struct download_options *o = f->options;
	struct download_result *r = f->result;
	struct download_part *p = &f->part;
	if (o->size && p->have != o->size) {
		error_set(err, ERROR_INTEGRITY,
			"has %" PRIu64 " bytes, and %" PRIu64 " were expected", p->have, o->size);
		return mismatch(f, err);
	}
	fail(f, DATA_FAILED);
	if (download_hash_finish(&p->hash, p->have, r->sha256, err) < 0)
		return DOWNLOAD_FAILED;
	if (o->sha256 && !streq(o->sha256, r->sha256)) {
		error_set(err, ERROR_INTEGRITY, "has the SHA-256 %s, and %s was expected",
			r->sha256, o->sha256);
		return mismatch(f, err);
	}
	if (download_object_commit(f->cache, f->key, p->fd, r->sha256, &r->fd, err) < 0)
		return DOWNLOAD_FAILED;
	r->size = p->have;
	struct download_record record = {.asked_ms = wall_ms()};
	memcpy(record.etag, p->etag, sizeof(record.etag));
	memcpy(record.last_modified, p->last_modified, sizeof(record.last_modified));
	memcpy(record.sha256, r->sha256, sizeof(record.sha256));
	memcpy(record.content_type, r->content_type, sizeof(record.content_type));
	memcpy(record.final_url, r->final_url, sizeof(record.final_url));
	download_part_remove(p);
	// What has a hash is found by that.
	if (!o->sha256 && download_record_write(f->cache, f->key, o->url, &record, err) < 0)
		return DOWNLOAD_FAILED;
	return DOWNLOAD_DONE;
}

// Not changed.
static enum download_step take_old(struct download_flight *f, struct error *err)
{
	struct download_result *r = f->result;
	struct download_record record = f->old;
	record.asked_ms = wall_ms();
	memcpy(r->sha256, record.sha256, sizeof(r->sha256));
	memcpy(r->content_type, record.content_type, sizeof(r->content_type));
	r->reused = true;
	r->fd = steal_fd(&f->old_fd);
	off_t size = lseek(r->fd, 0, SEEK_END);
	r->size = size > 0 ? (uint64_t)size : 0;
	fail(f, DATA_FAILED);
	if (download_record_write(f->cache, f->key, f->options->url, &record, err) < 0)
		return DOWNLOAD_FAILED;
	return DOWNLOAD_DONE;
}

static enum download_step refused(
	struct download_flight *f, enum data_failure failure, const char *remedy, struct error *err)
{
	const struct download_exchange *x = &f->exchange;
	error_set(err, failure == DATA_NOT_FOUND ? ERROR_NOT_FOUND : ERROR_DENIED,
		"the server answered %d%s%s%s", x->status, *x->reason ? " " : "", x->reason,
		remedy);
	fail(f, failure);
	return DOWNLOAD_FAILED;
}

// An answer without a file.
static enum download_step on_status(struct download_flight *f, struct error *err)
{
	struct download_exchange *x = &f->exchange;
	switch (x->status) {
	case 404:
	case 410:
		return refused(f, DATA_NOT_FOUND, "", err);
	case 401:
	case 407:
		return refused(f, DATA_AUTHENTICATION, ": credentials are needed", err);
	case 403:
		return refused(f, DATA_FORBIDDEN, ": access is denied", err);
	case 416:
		f->discard = true;
		break;
	}
	error_set(err, ERROR_UNAVAILABLE, "the server answered %d%s%s", x->status,
		*x->reason ? " " : "", x->reason);
	bool passing = x->status >= 500 || x->status == 408 || x->status == 416 ||
		       x->status == 425 || x->status == 429;
	fail(f, passing ? DATA_NETWORK : DATA_FAILED);
	return passing ? DOWNLOAD_RETRY : DOWNLOAD_FAILED;
}

static enum download_step on_answer(struct download_flight *f, struct error *err)
{
	const struct download_part *p = &f->part;
	int status = f->exchange.status;
	if (status == 304 && f->old_fd >= 0)
		return take_old(f, err);
	if (status != 200 && status != 203 && status != 206)
		return on_status(f, err);
	if (p->sized && p->have == p->size)
		return finish(f, err);
	if (!p->sized && !f->not_whole)
		return finish(f, err);
	error_set(err, ERROR_UNAVAILABLE, "the server sent only a part of it");
	fail(f, DATA_NETWORK);
	return DOWNLOAD_RETRY;
}

// The headers that say what is here already. Texts are kept in `lines`.
static void set_headers(struct download_flight *f, char lines[3][400], const char *headers[4])
{
	const struct download_part *p = &f->part;
	size_t n = 0;
	f->resumed = p->have > 0;
	if (f->resumed) {
		const char *validator = download_part_validator(p);
		snprintf(lines[n], 400, "Range: bytes=%" PRIu64 "-", p->have);
		n++;
		if (validator) {
			snprintf(lines[n], 400, "If-Range: %s", validator);
			n++;
		}
	} else if (f->old_fd >= 0) {
		bool tagged = *f->old.etag;
		snprintf(lines[n], 400, "%s: %s", tagged ? "If-None-Match" : "If-Modified-Since",
			tagged ? f->old.etag : f->old.last_modified);
		n++;
	}
	for (size_t i = 0; i < n; i++)
		headers[i] = lines[i];
	headers[n] = NULL;
}

// Can what is here be gone on with? Without a validator only a hash can tell whether two halves are
// of one file. What is complete already is asked for its last byte.
static int prepare(struct download_flight *f, struct error *err)
{
	struct download_part *p = &f->part;
	bool hopeless = p->have && !f->options->sha256 && !download_part_validator(p);
	if (f->discard || hopeless) {
		f->discard = false;
		return download_part_restart(p, NULL, err);
	}
	if (p->have && p->sized && p->have == p->size)
		return download_part_step_back(p, err);
	return 0;
}

static int run_exchange(struct download_flight *f, struct error *err)
{
	char lines[3][400];
	const char *headers[4];
	const struct download_options *o = f->options;
	struct download_exchange *x = &f->exchange;
	set_headers(f, lines, headers);
	*x = (struct download_exchange){.options = o,
		.deadline = f->deadline,
		.headers = headers,
		.head = on_head,
		.body = on_body,
		.tick = on_tick,
		.data = f,
		.retry_after_ms = -1};
	int status = o->exchange ? o->exchange(o->exchange_data, x, err)
				 : download_pool_exchange(&f->cache->pool, x, err);
	x->headers = NULL;
	struct error unwritten;
	if (write_body(f, NULL, 0, &unwritten) < 0) {
		*err = unwritten;
		x->retry = false;
		status = -1;
	}
	f->result->status = x->status;
	memcpy(f->result->final_url, x->final_url, sizeof(x->final_url));
	return status;
}

enum download_step download_flight_step(struct download_flight *f, struct error *err)
{
	const struct download_part *p = &f->part;
	fail(f, DATA_FAILED);
	// Complete, and killed before it was put in its place.
	if (f->options->sha256 && p->have && p->sized && p->have == p->size && !f->discard)
		return finish(f, err);
	if (prepare(f, err) < 0)
		return DOWNLOAD_FAILED;
	f->checked = p->have;
	if (run_exchange(f, err) == 0)
		return on_answer(f, err);
	if (f->discard && f->exchange.failure == DATA_OK)
		fail(f, DATA_NETWORK);
	return f->exchange.retry ? DOWNLOAD_RETRY : DOWNLOAD_FAILED;
}
