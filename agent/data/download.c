// SPDX-License-Identifier: Apache-2.0
#include "agent/data/download.h"

#include "agent/data/download_flight.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/time.h"
#include "oci/store/entries.h"

#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

enum {
	TRIES_DEFAULT = 6,
	BACKOFF_FIRST_MS = 500,
	BACKOFF_MOST_MS = 30 * 1000,
	// So much more than ever before is progress: the count of failures begins again.
	PROGRESS_BYTES = 1024 * 1024,
	NAP_MS = 50,
};

void download_url_shown(const char *url, char *out, size_t size)
{
	cleanup_buffer struct buffer text = {0};
	const char *scheme = strstr(url, "://");
	const char *host = scheme ? scheme + 3 : url;
	size_t authority = strcspn(host, "/?#");
	for (const char *p = host; p < host + authority; p++)
		if (*p == '@') { // the last one ends user and password
			authority -= (size_t)(p + 1 - host);
			host = p + 1;
			p = host - 1;
		}
	buffer_append(&text, url, scheme ? (size_t)(scheme + 3 - url) : 0);
	size_t plain = strcspn(host, "?#");
	buffer_append(&text, host, plain);
	// Names of the query stay, values go; so does the fragment.
	for (const char *p = host + plain; *p == '?' || *p == '&';) {
		size_t name = strcspn(p + 1, "=&#");
		buffer_append(&text, p, 1 + name);
		p += 1 + name;
		if (*p == '=') {
			buffer_puts(&text, "=…");
			p += strcspn(p, "&#");
		}
	}
	buffer_append(&text, "", 0);
	snprintf(out, size, "%s", text.data);
	text_flatten(out);
}

// Who gets the same: the address and what is said to it, since answers may depend on that and be
// for nobody else.
static void make_key(const struct download_options *o, char key[65])
{
	cleanup_buffer struct buffer text = {0};
	uint8_t digest[SHA256_SIZE];
	if (o->sha256) {
		snprintf(key, 65, "%.64s", o->sha256);
		return;
	}
	buffer_puts(&text, o->url);
	for (size_t i = 0; i < o->headers.count; i++)
		buffer_printf(&text, "\n%s", o->headers.items[i]);
	sha256_of(text.data, text.size, digest);
	sha256_hex(digest, key);
}

static int give_up(struct download_flight *f, enum data_failure failure)
{
	*f->failure = failure;
	return -1;
}

// Sleep, but hear when to give up.
static int nap(struct download_flight *f, int64_t ms, struct error *err)
{
	const struct download_options *o = f->options;
	for (int64_t end = now_ms() + ms, left = ms; left > 0; left = end - now_ms()) {
		const struct download_part *p = &f->part;
		sleep_ms(left < NAP_MS ? left : NAP_MS);
		if (o->progress &&
			o->progress(o->data, p->have, p->sized ? p->size : o->size) != 0) {
			error_set(err, ERROR_UNAVAILABLE, "canceled");
			return give_up(f, DATA_FAILED);
		}
		if (now_ms() >= f->deadline) {
			error_set(err, ERROR_LIMIT, "not complete within %llu s",
				(unsigned long long)(o->limit_ms / 1000));
			return give_up(f, DATA_TIMEOUT);
		}
	}
	return 0;
}

static void take_object(struct download_flight *f, int fd, const char *sha256)
{
	struct download_result *r = f->result;
	off_t size = lseek(fd, 0, SEEK_END);
	r->fd = fd;
	r->size = size > 0 ? (uint64_t)size : 0;
	snprintf(r->sha256, sizeof(r->sha256), "%s", sha256);
	r->reused = true;
}

// What needs no question: 1 and the result is filled. `waited`: what others have fetched since this
// call began is as new as what we would get.
static int look(struct download_flight *f, bool waited, struct error *err)
{
	const struct download_options *o = f->options;
	int fd = -1, found;
	struct download_record record = {0};
	if (o->sha256) {
		if (o->revalidate < 0 && !waited)
			return 0;
		found = download_lease(f->cache, o->sha256, &fd, err);
		if (found > 0)
			take_object(f, fd, o->sha256);
		return found;
	}
	if (!download_record_read(f->cache, f->key, o->url, &record))
		return 0;
	if (o->revalidate != 0 && !(waited && record.asked_ms >= f->began_ms))
		return 0;
	found = download_lease(f->cache, record.sha256, &fd, err);
	if (found > 0) {
		take_object(f, fd, record.sha256);
		memcpy(f->result->content_type, record.content_type, sizeof(record.content_type));
		memcpy(f->result->final_url, record.final_url, sizeof(record.final_url));
	}
	return found;
}

// Wait for the right to fetch. 1: it is not needed any more.
static int wait_for_lock(struct download_flight *f, struct error *err)
{
	for (bool waited = false;; waited = true) {
		int status = store_lock_open(
			f->cache->locks_fd, f->key, O_RDWR | O_CREAT, LOCK_EX, &f->lock_fd, err);
		if (status < 0)
			return give_up(f, DATA_FAILED);
		if (status == STORE_LOCKED)
			return look(f, waited, err);
		if (nap(f, NAP_MS, err) < 0)
			return -1;
	}
}

// What is here, to be asked about.
static int find_old(struct download_flight *f, struct error *err)
{
	const struct download_options *o = f->options;
	if (o->sha256 || o->revalidate <= 0 ||
		!download_record_read(f->cache, f->key, o->url, &f->old) ||
		(!*f->old.etag && !*f->old.last_modified))
		return 0;
	return download_lease(f->cache, f->old.sha256, &f->old_fd, err) < 0 ? -1 : 0;
}

// Half of the delay is random, so that a hundred nodes do not come back all at once.
static int64_t backoff_ms(const struct download_flight *f)
{
	int64_t delay = BACKOFF_FIRST_MS;
	for (unsigned i = 1; i < f->failures && delay < BACKOFF_MOST_MS; i++)
		delay *= 2;
	delay = delay < BACKOFF_MOST_MS ? delay : BACKOFF_MOST_MS;
	uint16_t chance = 0;
	if (getrandom(&chance, sizeof(chance), GRND_NONBLOCK) < 0)
		chance = (uint16_t)now_ms();
	delay = delay / 2 + delay / 2 * chance / UINT16_MAX;
	int64_t asked = f->exchange.retry_after_ms;
	return asked > delay ? asked : delay;
}

// Count a failure and sleep. -1: it was the last.
static int pause_after(struct download_flight *f, struct error *err)
{
	const struct download_options *o = f->options;
	unsigned tries = o->tries ? o->tries : TRIES_DEFAULT;
	const struct download_part *p = &f->part;
	if (p->have >= f->furthest + PROGRESS_BYTES) {
		f->furthest = p->have;
		f->failures = 0;
	}
	if (++f->failures >= tries) {
		struct error last = *err;
		if (tries > 1)
			error_set(
				err, last.kind, "%s; gave up after %u attempts", last.text, tries);
		return give_up(f, f->exchange.failure);
	}
	int64_t delay = backoff_ms(f);
	if (o->notice) {
		struct error line;
		error_set(&line, ERROR_NONE, "retrying in %.1f s: %s", (double)delay / 1000,
			err->text);
		o->notice(o->data, line.text);
	}
	return nap(f, delay, err);
}

static int fly(struct download_flight *f, struct error *err)
{
	for (;;) {
		switch (download_flight_step(f, err)) {
		case DOWNLOAD_DONE:
			return 0;
		case DOWNLOAD_AGAIN:
			break;
		case DOWNLOAD_RETRY:
			if (pause_after(f, err) < 0)
				return -1;
			break;
		case DOWNLOAD_FAILED:
			return give_up(f, f->exchange.failure);
		}
	}
}

static int run(struct download_flight *f, struct error *err)
{
	const struct download_options *o = f->options;
	int status = look(f, false, err);
	if (status == 0)
		status = wait_for_lock(f, err);
	if (status != 0)
		return status > 0 ? 0 : -1;
	if (find_old(f, err) < 0 || download_part_open(f->cache->parts_fd, f->key, o->url,
					    o->sha256 != NULL, &f->part, err) < 0)
		return -1;
	f->furthest = f->part.have;
	return fly(f, err);
}

int download_get(struct download_cache *c, const struct download_options *o,
	struct download_result *r, enum data_failure *failure, struct error *err)
{
	struct download_flight f = {.cache = c,
		.options = o,
		.result = r,
		.failure = failure,
		.deadline = o->limit_ms ? now_ms() + (int64_t)o->limit_ms : INT64_MAX,
		.began_ms = wall_ms(),
		.lock_fd = -1,
		.old_fd = -1};
	*r = (struct download_result){.fd = -1};
	*failure = DATA_FAILED;
	make_key(o, f.key);
	int status = run(&f, err);
	if (f.part.hash.hash && !f.part.have) // nothing to go on with
		download_part_remove(&f.part);
	download_part_release(&f.part);
	close_fdp(&f.old_fd);
	if (f.lock_fd >= 0) {
		unlinkat(c->locks_fd, f.key, 0);
		close_fdp(&f.lock_fd);
	}
	if (status == 0) {
		if (o->progress)
			o->progress(o->data, r->size, r->size);
		*failure = DATA_OK;
		error_clear(err); // of tries before
		return 0;
	}
	char shown[240];
	download_url_shown(o->url, shown, sizeof(shown));
	download_result_release(r);
	return error_context(err, "%s", shown);
}

void download_result_release(struct download_result *r)
{
	close_fdp(&r->fd);
	r->fd = -1;
}
