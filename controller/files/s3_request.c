// SPDX-License-Identifier: Apache-2.0
//
// Signing is libcurl's (CURLOPT_AWS_SIGV4). What Debian 12's 7.88 does not do is done here: it
// signs the query as it stands, so ours are written sorted and encoded; it hashes no body that is
// read through a callback, so x-amz-content-sha256 is given; and a header that is taken away
// ("Expect:") spoils the signature (base/exchange.c).
#include "controller/files/s3_internal.h"

#include "base/sha256.h"
#include "base/text.h"
#include "base/time.h"
#include "controller/files/s3_credentials.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
	CONNECTIONS = 48,
	IDLE = 16, // kept open
	CONNECT_MS = 3000,
	STALL_MS = 10 * 1000,
	PATIENCE_MS = 10 * 1000,
	PAUSE_FIRST_MS = 100,
	PAUSE_MAX_MS = 2000,
	HEADERS_MAX = 8,
};

struct s3 {
	struct s3_credentials *credentials;
	char *url, *sign, *ca;
	pthread_mutex_t lock;
	pthread_cond_t given;
	struct exchange *idle[IDLE];
	unsigned idle_count, used;
	atomic_bool is_away; // the last request was given up
};

struct s3 *s3_open(const struct s3_address *a, struct error *err)
{
	const struct exchange_settings first = {.cancel_fd = -1};
	struct exchange *x = exchange_new(&first, err);
	struct s3_credentials *credentials = x ? s3_credentials_open(a->credentials, err) : NULL;
	exchange_free(x);
	if (!credentials)
		return NULL;
	md5_prepare();
	sha256_prepare();
	struct s3 *s = xcalloc(1, sizeof(*s));
	pthread_condattr_t monotonic;
	s->credentials = credentials;
	s->url = xstrdup(a->url);
	s->sign = xasprintf("aws:amz:%s:s3", a->region);
	s->ca = a->ca ? xstrdup(a->ca) : NULL;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&s->given, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return s;
}

void s3_close(struct s3 *s)
{
	if (!s)
		return;
	while (s->idle_count)
		exchange_free(s->idle[--s->idle_count]);
	s3_credentials_free(s->credentials);
	pthread_cond_destroy(&s->given);
	pthread_mutex_destroy(&s->lock);
	free(s->url);
	free(s->sign);
	free(s->ca);
	free(s);
}

// ---- connections

static struct exchange *take(struct s3 *s, int64_t until, struct error *err)
{
	struct timespec end = {until / 1000, until % 1000 * 1000000};
	struct exchange *x = NULL;
	int rc = 0;
	pthread_mutex_lock(&s->lock);
	while (s->used == CONNECTIONS && rc == 0)
		rc = pthread_cond_timedwait(&s->given, &s->lock, &end);
	bool free_one = s->used < CONNECTIONS;
	if (free_one) {
		s->used++;
		x = s->idle_count ? s->idle[--s->idle_count] : NULL;
	}
	pthread_mutex_unlock(&s->lock);
	if (!free_one) {
		error_set(err, ERROR_UNAVAILABLE, "%d requests are under way already", CONNECTIONS);
		return NULL;
	}
	const struct exchange_settings settings = {
		.ca = s->ca, .connect_ms = CONNECT_MS, .stall_ms = STALL_MS, .cancel_fd = -1};
	return x ? x : exchange_new(&settings, err);
}

// One that failed may hold a connection that is no good.
static void give(struct s3 *s, struct exchange *x, bool good)
{
	pthread_mutex_lock(&s->lock);
	s->used--;
	bool kept = good && s->idle_count < IDLE;
	if (kept)
		s->idle[s->idle_count++] = x;
	pthread_cond_signal(&s->given);
	pthread_mutex_unlock(&s->lock);
	if (!kept)
		exchange_free(x);
}

// ---- one request

struct headers {
	const char *list[HEADERS_MAX];
	char hash[96], md5[64], range[96];
	char *token;
};

static void make_headers(struct headers *h, const struct s3_request *q, const struct s3_key *key)
{
	size_t n = 0;
	uint8_t digest[SHA256_SIZE];
	char hex[SHA256_HEX_SIZE], md5[MD5_TEXT_SIZE];
	sha256_of(q->body ? q->body : "", q->size, digest);
	sha256_hex(digest, hex);
	snprintf(h->hash, sizeof(h->hash), "x-amz-content-sha256: %s", hex);
	h->list[n++] = h->hash;
	if (q->has_md5 && md5_text(q->body, q->size, md5)) {
		snprintf(h->md5, sizeof(h->md5), "Content-MD5: %s", md5);
		h->list[n++] = h->md5;
	}
	if (q->range) {
		snprintf(h->range, sizeof(h->range), "Range: %s", q->range);
		h->list[n++] = h->range;
	}
	if (key->token) {
		h->token = xasprintf("x-amz-security-token: %s", key->token);
		h->list[n++] = h->token;
	}
}

static int ask(struct s3 *s, const struct s3_request *q, int64_t until,
	struct exchange_reply *reply, struct error *err)
{
	cleanup_s3_key struct s3_key key = {0};
	struct headers h = {0};
	cleanup_free char *url = xasprintf(
		"%s%s%s%s", s->url, q->key, q->query ? "?" : "", q->query ? q->query : "");
	s3_credentials_get(s->credentials, &key);
	make_headers(&h, q, &key);
	struct exchange_request e = {
		.method = q->method,
		.url = url,
		.headers = h.list,
		.body = q->body,
		.body_size = q->size,
		.fd = -1,
		.limit = q->limit,
		.sign = s->sign,
		.user = key.user,
	};
	struct exchange *x = take(s, until, err);
	int rc = x ? exchange_do(x, &e, reply, err) : -1;
	if (x)
		give(s, x, rc == 0);
	free(h.token);
	return rc;
}

bool s3_element(const struct buffer *body, const char *name, char *text, size_t size)
{
	char open[64], close[64];
	snprintf(open, sizeof(open), "<%s>", name);
	snprintf(close, sizeof(close), "</%s>", name);
	if (!body->size)
		return false;
	const char *begin = memmem(body->data, body->size, open, strlen(open));
	if (!begin)
		return false;
	begin += strlen(open);
	const char *end =
		memmem(begin, (size_t)(body->data + body->size - begin), close, strlen(close));
	if (!end || (size_t)(end - begin) >= size)
		return false;
	snprintf(text, size, "%.*s", (int)(end - begin), begin);
	return true;
}

// Is the answer one? If not, does asking again help?
static bool is_answer(const struct exchange_reply *r, bool *again, struct error *err)
{
	char code[64] = "", message[160] = "";
	if ((r->status >= 200 && r->status < 300) || r->status == 404 || r->status == 416)
		return true;
	s3_element(&r->body, "Code", code, sizeof(code));
	s3_element(&r->body, "Message", message, sizeof(message));
	error_set(err, ERROR_UNAVAILABLE, "answered %d %s%s%s", r->status, code,
		*message ? ": " : "", message);
	// A body that was harmed on its way is sent again, as one that came too slowly.
	*again = r->status >= 500 || r->status == 429 || r->status == 408 ||
		 streq(code, "BadDigest") || streq(code, "RequestTimeout") ||
		 streq(code, "XAmzContentSHA256Mismatch") || streq(code, "OperationAborted");
	return false;
}

static bool pause_before_next(unsigned tries, int64_t asked_ms, int64_t until)
{
	int64_t ms = PAUSE_FIRST_MS << (tries < 5 ? tries : 5);
	if (ms > PAUSE_MAX_MS)
		ms = PAUSE_MAX_MS;
	ms = ms / 2 + random() % ms;
	if (asked_ms > ms)
		ms = asked_ms;
	if (now_ms() + ms >= until)
		return false;
	sleep_ms(ms);
	return true;
}

int s3_do(struct s3 *s, const struct s3_request *q, struct exchange_reply *reply, struct error *err)
{
	int64_t until = now_ms() + PATIENCE_MS;
	for (unsigned tries = 0;; tries++) {
		bool again = true;
		int64_t asked_ms = -1;
		if (ask(s, q, until, reply, err) == 0) {
			if (is_answer(reply, &again, err)) {
				atomic_store(&s->is_away, false);
				return 0;
			}
			asked_ms = reply->retry_after_ms;
		}
		if (!again || q->once || atomic_load(&s->is_away) ||
			!pause_before_next(tries, asked_ms, until)) {
			atomic_store(&s->is_away, again);
			err->kind = ERROR_UNAVAILABLE;
			return error_context(err, "files: %s%s", s->url, q->key);
		}
	}
}
