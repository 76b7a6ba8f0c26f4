// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/request.h"

#include "base/text.h"
#include "base/time.h"
#include "oci/registry/url.h"

#include <inttypes.h>
#include <sys/random.h>

enum {
	BACKOFF_FIRST_MS = 500,
	BACKOFF_MOST_MS = 30 * 1000,
	AVOID_MS = 60 * 1000,
	AUTH_TRIES_MAX = 2,
	// Bytes after which an attempt counts as progress. A server that sends a little and hangs
	// up, each time, must come to an end. So must one that is asked for the whole each time:
	// what it sends is no progress, however much it is.
	PROGRESS_BYTES = 1024 * 1024,
};

struct request {
	struct registry_client *client;
	struct request *next;
	const struct request_events *events;
	void *data;
	enum transfer_method method;
	char *resource;
	char *absolute; // instead; NULL
	bool once;
	struct transfer_upload upload;
	void (*sent)(void *data, uint64_t bytes); // the caller's
	const char *accept;
	uint64_t range_start, range_end;
	bool ranged; // the attempt under way sent a Range

	struct transfer *transfer;
	char *url;
	bool foreign; // a redirect has led away from the endpoint
	size_t endpoint;
	unsigned redirects, auth_tries, generation;
	uint64_t failures; // in a row
	uint64_t got;	   // bytes since the last failure
	int64_t wake_at;   // monotonic ms; 0: not asleep
	int64_t retry_after_ms;
	bool waiting; // for a token
	bool gone;    // cancelled or done; freed at the end of the turn
};

static const struct transfer_events transfer_events;

static struct endpoint_state *state_of(const struct request *r)
{
	return &r->client->states[r->endpoint];
}

static const char *name_of(const struct request *r)
{
	return state_of(r)->endpoint->name;
}

static void finish(struct request *r, const struct error *err)
{
	r->gone = true;
	r->events->done(r->data, err);
}

static bool uploads(const struct request *r)
{
	return r->method == TRANSFER_PUT || r->method == TRANSFER_PATCH;
}

// Send what r->url says.
static void send_request(struct request *r)
{
	struct endpoint_state *state = state_of(r);
	cleanup_free char *range = NULL;
	if (r->range_end)
		range = xasprintf("bytes=%" PRIu64 "-%" PRIu64, r->range_start, r->range_end - 1);
	r->ranged = range != NULL;
	r->generation = state->auth.generation;
	r->transfer = transfer_start(&r->client->http,
		&(struct transfer_options){
			.method = r->method,
			.url = r->url,
			.authorization = r->foreign ? NULL : state->auth.header,
			.accept = r->accept,
			.form = r->method == TRANSFER_POST ? "" : NULL,
			.upload = uploads(r) ? &r->upload : NULL,
			.range = range,
			.ca = state->endpoint->ca,
			.proxy = state->endpoint->proxy,
		},
		&transfer_events, r);
}

static bool is_foreign(const struct request *r)
{
	const struct curl_functions *curl = r->client->http.curl;
	struct url_origin to, home;
	struct error ignored;
	return url_origin_of(curl, r->url, &to, &ignored) < 0 ||
	       url_origin_of(curl, state_of(r)->endpoint->url, &home, &ignored) < 0 ||
	       !url_origin_equal(&to, &home);
}

static void attempt(struct request *r)
{
	free(r->url);
	if (r->absolute)
		r->url = xstrdup(r->absolute);
	else
		r->url = xasprintf("%s/v2/%s/%s", state_of(r)->endpoint->url,
			r->client->settings->path, r->resource);
	r->foreign = r->absolute && is_foreign(r);
	r->redirects = 0;
	r->retry_after_ms = -1;
	send_request(r);
}

// The first endpoint that is not known to be down, else the registry itself.
static size_t first_endpoint(const struct registry_client *c, size_t from)
{
	size_t last = c->settings->endpoint_count - 1;
	while (from < last && c->states[from].avoid_until > c->http.now)
		from++;
	return from;
}

static void notice(struct request *r, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void notice(struct request *r, const char *format, ...)
{
	struct error text; // an error's text is one line without control characters
	char line[sizeof(text.text)];
	va_list args;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	error_set(&text, ERROR_NONE, "%s", line);
	if (r->events->notice)
		r->events->notice(r->data, text.text);
}

// Half of the delay is random, so that a hundred nodes do not come back all at once.
static int64_t backoff_ms(const struct request *r)
{
	int64_t delay = BACKOFF_FIRST_MS;
	for (uint64_t i = 1; i < r->failures && delay < BACKOFF_MOST_MS; i++)
		delay *= 2;
	delay = delay < BACKOFF_MOST_MS ? delay : BACKOFF_MOST_MS;
	uint16_t chance = 0;
	if (getrandom(&chance, sizeof(chance), GRND_NONBLOCK) < 0)
		chance = (uint16_t)now_ms();
	delay = delay / 2 + delay / 2 * chance / UINT16_MAX;
	return r->retry_after_ms > delay ? r->retry_after_ms : delay;
}

static void sleep_and_retry(struct request *r, const struct error *why)
{
	int64_t delay = backoff_ms(r);
	notice(r, "retrying in %.1f s: %s", (double)delay / 1000, why->text);
	r->endpoint = first_endpoint(r->client, 0);
	r->auth_tries = 0;
	r->wake_at = r->client->http.now + delay;
}

// An attempt has failed: the next endpoint, the same again later, or the end.
static void fail(struct request *r, struct error *err, bool retry)
{
	bool last = r->endpoint + 1 == r->client->settings->endpoint_count;
	if (r->once && !retry && err->kind == ERROR_UNAVAILABLE)
		err->kind = ERROR_INVALID;
	if (r->once || err->sys ||
		err->kind == ERROR_SYSTEM) { // ours: a full disk is full for all of them
		finish(r, err);
		return;
	}
	if (retry && !last)
		state_of(r)->avoid_until = r->client->http.now + AVOID_MS;
	if (!last) {
		r->endpoint = first_endpoint(r->client, r->endpoint + 1);
		r->auth_tries = 0;
		notice(r, "trying %s: %s", name_of(r), err->text);
		attempt(r);
		return;
	}
	if (r->ranged && r->got >= PROGRESS_BYTES)
		r->failures = 0;
	r->got = 0;
	if (retry && r->failures < r->client->settings->retries) {
		r->failures++;
		sleep_and_retry(r, err);
		return;
	}
	if (retry && r->failures) {
		struct error given_up;
		error_set(&given_up, err->kind, "%s; gave up after %" PRIu64 " attempts", err->text,
			r->failures + 1);
		*err = given_up;
	}
	finish(r, err);
}

static void fail_status(struct request *r, const struct response *p)
{
	const char *subject = r->client->settings->subject, *name = name_of(r);
	struct error err = {0};
	bool retry = p->status == 408 || p->status == 429 || p->status >= 500;
	r->retry_after_ms = p->retry_after_ms;
	if (p->status == 404)
		error_set(&err, ERROR_NOT_FOUND,
			"%s: not found in the registry (404); check the name and the tag, or log "
			"in "
			"if it is private",
			subject);
	else if (p->status == 405 && r->method != TRANSFER_GET && r->method != TRANSFER_HEAD)
		error_set(&err, ERROR_DENIED, "%s: the registry takes no uploads (405)", subject);
	else if (p->status == 401)
		error_set(&err, ERROR_DENIED, "%s: credentials are needed (401)", subject);
	else if (p->status == 403)
		error_set(&err, ERROR_DENIED,
			"%s: access is denied by %s (403); check the name, or run docker login %s",
			subject, name, name);
	else if (p->status == 416)
		error_set(&err, ERROR_INTEGRITY, "%s: the blob is shorter than its manifest says",
			subject);
	else
		error_set(&err, ERROR_UNAVAILABLE, "%s: the registry answered %d%s%s", name,
			p->status, *p->reason ? " " : "", p->reason);
	fail(r, &err, retry);
}

// Credentials go to the endpoint alone; what was asked for under TLS is not fetched without.
static void follow(struct request *r, const struct response *p)
{
	const struct curl_functions *curl = r->client->http.curl;
	struct url_origin from, to, home;
	struct error err = {0};
	cleanup_free char *url = NULL;
	if (++r->redirects > REDIRECTS_MAX)
		error_set(&err, ERROR_UNAVAILABLE, "%s: more than %d redirects", name_of(r),
			REDIRECTS_MAX);
	else if (!p->location)
		error_set(&err, ERROR_UNAVAILABLE, "%s: a redirect to nowhere (%d)", name_of(r),
			p->status);
	else
		url = url_resolve(curl, r->url, p->location, &err);
	if (!url || url_origin_of(curl, r->url, &from, &err) < 0 ||
		url_origin_of(curl, url, &to, &err) < 0 ||
		url_origin_of(curl, state_of(r)->endpoint->url, &home, &err) < 0) {
		if (err.kind == ERROR_INVALID)
			error_context(&err, "%s: redirect", name_of(r));
		fail(r, &err, false);
		return;
	}
	if (streq(from.scheme, "https") && streq(to.scheme, "http")) {
		error_set(&err, ERROR_DENIED, "%s: a redirect from https to http is refused (%s)",
			name_of(r), to.host);
		fail(r, &err, false);
		return;
	}
	free(r->url);
	r->url = steal(url);
	r->foreign = !url_origin_equal(&to, &home);
	send_request(r);
}

static void authenticate(struct request *r, const struct response *p)
{
	struct registry_auth *auth = &state_of(r)->auth;
	struct error err = {0};
	if (r->foreign) {
		fail_status(r, p);
		return;
	}
	if (++r->auth_tries > AUTH_TRIES_MAX) {
		registry_auth_refuse(auth, &err);
		fail(r, &err, false);
		return;
	}
	switch (registry_auth_challenge(auth, p, r->generation, &err)) {
	case AUTH_AGAIN:
		send_request(r);
		break;
	case AUTH_WAIT:
		r->waiting = true;
		break;
	case AUTH_REFUSED:
		fail(r, &err, false);
		break;
	}
}

void requests_settled(struct registry_auth *auth, const struct error *err, bool retry)
{
	struct registry_client *c = auth->data;
	for (struct request *r = c->requests; r; r = r->next) {
		if (!r->waiting || r->gone || &state_of(r)->auth != auth)
			continue;
		r->waiting = false;
		struct error copy;
		if (!err) {
			send_request(r);
		} else {
			copy = *err;
			fail(r, &copy, retry);
		}
	}
}

static void on_sent(void *data, uint64_t bytes)
{
	struct request *r = data;
	r->sent(r->data, bytes);
}

static int on_begin(void *data, const struct response *p, struct error *err)
{
	struct request *r = data;
	r->auth_tries = 0;
	return r->events->begin(r->data, p, err);
}

static int on_body(void *data, const char *bytes, size_t size, struct error *err)
{
	struct request *r = data;
	r->got += size;
	return r->events->body(r->data, bytes, size, err);
}

static void on_done(void *data, const struct response *p, const struct error *failed, bool retry)
{
	struct request *r = data;
	struct error err = {0};
	r->transfer = NULL;
	if (failed) {
		err = *failed;
		error_context(&err, "%s", name_of(r));
		fail(r, &err, retry);
	} else if (p->status >= 200 && p->status < 300) {
		if (r->events->end(r->data, p, &err) == 0) {
			finish(r, NULL);
		} else {
			error_context(&err, "%s", name_of(r));
			fail(r, &err, err.kind == ERROR_UNAVAILABLE);
		}
	} else if (p->status == 401) {
		authenticate(r, p);
	} else if (p->status >= 301 && p->status <= 308 && p->status != 304 && p->status != 305 &&
		   p->status != 306) {
		follow(r, p);
	} else {
		fail_status(r, p);
	}
}

static const struct transfer_events transfer_events = {on_begin, on_body, on_done};

struct request *request_start(struct registry_client *c, const struct request_options *o,
	const struct request_events *events, void *data)
{
	struct request *r = xcalloc(1, sizeof(*r));
	r->client = c;
	r->events = events;
	r->data = data;
	r->method = o->method;
	r->resource = xstrdup(o->resource ? o->resource : "");
	r->absolute = o->url ? xstrdup(o->url) : NULL;
	r->once = o->once;
	r->upload = o->upload ? *o->upload : (struct transfer_upload){.fd = -1};
	r->sent = r->upload.sent;
	r->upload.sent = r->sent ? on_sent : NULL;
	r->accept = o->accept;
	r->endpoint = first_endpoint(c, 0);
	r->wake_at = c->http.now ? c->http.now + o->delay_ms
				 : 1; // in this turn, when the caller has set the range
	r->next = c->requests;
	c->requests = r;
	return r;
}

void request_set_range(struct request *r, uint64_t start, uint64_t end)
{
	r->range_start = start;
	r->range_end = end;
}

bool request_is_ranged(const struct request *r)
{
	return r->ranged;
}

void request_cancel(struct request *r)
{
	if (!r)
		return;
	r->gone = true;
	transfer_cancel(r->transfer);
	r->transfer = NULL;
}

static void request_free(struct request *r)
{
	transfer_cancel(r->transfer);
	free(r->url);
	free(r->absolute);
	free(r->resource);
	free(r);
}

void requests_release(struct registry_client *c)
{
	while (c->requests) {
		struct request *r = c->requests;
		c->requests = r->next;
		request_free(r);
	}
}

void requests_sweep(struct registry_client *c)
{
	struct request **link = &c->requests;
	while (*link) {
		struct request *r = *link;
		if (!r->gone) {
			link = &r->next;
			continue;
		}
		*link = r->next;
		request_free(r);
	}
}

void requests_wake(struct registry_client *c)
{
	for (struct request *r = c->requests; r; r = r->next) {
		if (r->gone || !r->wake_at || r->wake_at > c->http.now)
			continue;
		r->wake_at = 0;
		attempt(r);
	}
}

int64_t requests_deadline(const struct registry_client *c)
{
	int64_t first = INT64_MAX;
	for (const struct request *r = c->requests; r; r = r->next)
		if (r->wake_at && r->wake_at < first)
			first = r->wake_at;
	return first;
}
