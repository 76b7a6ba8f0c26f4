// SPDX-License-Identifier: Apache-2.0
#include "agent/data/download_exchange.h"

#include "agent/data/download_address.h"
#include "base/text.h"
#include "base/time.h"
#include "oci/registry/url.h"

#include <stdio.h>

enum { TICK_MS = 100 };

// One hop of it.
struct hop {
	struct download_exchange *exchange;
	const char *url;
	struct url_origin origin;
	struct download_sockets sockets;
	bool ended, failed;
	char *location;
	struct error error;
	bool stalled;
};

static int on_begin(void *data, const struct response *r, struct error *err)
{
	struct hop *h = data;
	struct download_exchange *x = h->exchange;
	x->status = r->status;
	struct download_head head = {.status = r->status,
		.has_length = r->has_length,
		.has_range = r->has_range,
		.length = r->length,
		.range_start = r->range_start,
		.range_end = r->range_end,
		.range_size = r->range_size};
	memcpy(head.etag, r->etag, sizeof(head.etag));
	memcpy(head.last_modified, r->last_modified, sizeof(head.last_modified));
	memcpy(head.media_type, r->media_type, sizeof(head.media_type));
	return x->head(x->data, &head, err);
}

static int on_body(void *data, const char *bytes, size_t size, struct error *err)
{
	struct hop *h = data;
	return h->exchange->body(h->exchange->data, bytes, size, err);
}

static void on_done(void *data, const struct response *r, const struct error *err, bool retry)
{
	struct hop *h = data;
	struct download_exchange *x = h->exchange;
	h->ended = true;
	h->failed = err != NULL;
	h->stalled = r->stalled;
	if (err)
		h->error = *err;
	x->retry = retry;
	x->status = r->status;
	x->retry_after_ms = r->retry_after_ms;
	snprintf(x->reason, sizeof(x->reason), "%s", r->reason);
	if (r->location && r->status >= 300 && r->status < 400)
		h->location = xstrdup(r->location);
}

static const struct transfer_events events = {on_begin, on_body, on_done};

// The proxy for this host; "" for none. NULL in the options: as the environment says.
static const char *proxy_for(const struct download_options *o, const struct url_origin *origin)
{
	const char *except = getenv("no_proxy");
	if (o->proxy)
		return o->proxy;
	except = except ? except : getenv("NO_PROXY");
	if (url_host_is_loopback(origin->host) ||
		(except && download_proxy_excepted(except, origin->host)))
		return "";
	bool tls = streq(origin->scheme, "https");
	const char *proxy = getenv(tls ? "https_proxy" : "http_proxy");
	// Not HTTP_PROXY: in a CGI program's environment its value is the client's.
	proxy = proxy || !tls ? proxy : getenv("HTTPS_PROXY");
	return proxy ? proxy : "";
}

static int wait_a_little(struct http *http, const struct download_exchange *x, struct error *err)
{
	int64_t until = http->now + TICK_MS, stall = http_deadline(http);
	until = stall < until ? stall : until;
	until = x->deadline < until ? x->deadline : until;
	int ms = until > http->now ? (int)(until - http->now) : 0;
	CURLMcode code = http->curl->multi_poll(http->multi, NULL, 0, ms, NULL);
	return code == CURLM_OK ? 0
				: error_set(err, ERROR_SYSTEM, "libcurl: %s",
					  http->curl->multi_strerror(code));
}

static int fail(struct download_exchange *x, enum data_failure failure)
{
	x->failure = failure;
	x->retry = false;
	return -1;
}

// Drive the transfer to its end.
static int drive(struct http *http, struct hop *h, struct error *err)
{
	struct download_exchange *x = h->exchange;
	int64_t told = 0;
	for (;;) {
		http->now = now_ms();
		if (http_turn(http, err) < 0)
			return fail(x, DATA_FAILED);
		if (h->ended)
			return 0;
		if (http->now >= x->deadline) {
			error_set(err, ERROR_LIMIT, "not complete within %llu s",
				(unsigned long long)(x->options->limit_ms / 1000));
			return fail(x, DATA_TIMEOUT);
		}
		if (http->now - told >= TICK_MS && x->tick(x->data)) {
			error_set(err, ERROR_UNAVAILABLE, "canceled");
			return fail(x, DATA_FAILED);
		}
		told = http->now - told >= TICK_MS ? http->now : told;
		if (wait_a_little(http, x, err) < 0)
			return fail(x, DATA_FAILED);
	}
}

// Why there is no answer.
static int explain(struct hop *h, enum data_failure before, struct error *err)
{
	struct download_exchange *x = h->exchange;
	*err = h->error;
	if (x->failure != before) // head() or body() has said why
		return fail(x, x->failure);
	if (*h->sockets.refused) {
		error_set(err, ERROR_DENIED,
			"%s, which inputs may not reach; allow \"%s:%s\" by local_hosts in "
			"agent.yaml if it is meant",
			h->sockets.refused, h->origin.host, h->origin.port);
		return fail(x, DATA_POLICY);
	}
	x->failure = h->stalled			      ? DATA_STALLED
		     : err->kind == ERROR_UNAVAILABLE ? DATA_NETWORK
						      : DATA_FAILED;
	return -1;
}

static int run_hop(struct http *http, struct hop *h, const char *const *headers, struct error *err)
{
	struct download_exchange *x = h->exchange;
	const struct download_options *o = x->options;
	enum data_failure before = x->failure;
	const char *proxy = proxy_for(o, &h->origin);
	h->sockets.any =
		*proxy || download_host_listed(&o->local_hosts, h->origin.host, h->origin.port);
	http->now = now_ms();
	transfer_start(http,
		&(struct transfer_options){
			.url = h->url,
			.ca = o->ca,
			.proxy = proxy,
			.headers = headers,
			.open_socket = download_socket_open,
			.socket_data = &h->sockets,
			.ca_remedy = "is its CA among those this node trusts?",
		},
		&events, h);
	if (drive(http, h, err) < 0)
		return -1;
	return h->failed ? explain(h, before, err) : 0;
}

// A proxy resolves names itself; addresses that stand in the URL we can still tell.
static int check_target(struct hop *h, struct error *err)
{
	const struct download_options *o = h->exchange->options;
	if (!*proxy_for(o, &h->origin) || !url_host_is_loopback(h->origin.host) ||
		download_host_listed(&o->local_hosts, h->origin.host, h->origin.port))
		return 0;
	error_set(err, ERROR_DENIED, "%s is a loopback address, which inputs may not reach",
		h->origin.host);
	return fail(h->exchange, DATA_POLICY);
}

static size_t gather(const struct hop *h, const struct url_origin *first, const char **headers)
{
	const struct download_exchange *x = h->exchange;
	size_t n = 0;
	for (const char *const *p = x->headers; p && *p && n < EXCHANGE_HEADERS_MAX; p++)
		headers[n++] = *p;
	// Credentials are for whom they were given.
	for (size_t i = 0; url_origin_equal(&h->origin, first) && i < x->options->headers.count &&
			   n < EXCHANGE_HEADERS_MAX;
		i++)
		headers[n++] = x->options->headers.items[i];
	headers[n] = NULL;
	return n;
}

// From where a redirect was sent to where it leads. What was asked for under TLS is not fetched
// without.
static char *follow(struct http *http, struct hop *h, struct error *err)
{
	struct download_exchange *x = h->exchange;
	struct url_origin to;
	cleanup_free char *location = steal(h->location);
	cleanup_free char *url = NULL;
	x->failure = DATA_FAILED;
	x->retry = false;
	if (!location) {
		error_set(err, ERROR_INVALID, "a redirect to nowhere (%d)", x->status);
		return NULL;
	}
	url = url_resolve(http->curl, h->url, location, err);
	if (!url || url_origin_of(http->curl, url, &to, err) < 0) {
		error_context(err, "redirect");
		return NULL;
	}
	if (streq(h->origin.scheme, "https") && streq(to.scheme, "http")) {
		error_set(err, ERROR_DENIED, "a redirect from https to http is refused (%s)",
			to.host);
		return NULL;
	}
	x->failure = DATA_OK;
	return steal(url);
}

static bool is_redirect(int status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

int download_exchange_run(struct http *http, struct download_exchange *x, struct error *err)
{
	cleanup_free char *url = xstrdup(x->options->url);
	struct url_origin first;
	http->stall_ms = x->options->stall_ms ? (int64_t)x->options->stall_ms : 30 * 1000;
	for (unsigned hops = 0;; hops++) {
		const char *headers[EXCHANGE_HEADERS_MAX + 1];
		struct hop h = {.exchange = x, .url = url};
		x->status = 0;
		if (url_origin_of(http->curl, url, &h.origin, err) < 0)
			return fail(x, DATA_FAILED);
		if (hops == 0)
			first = h.origin;
		gather(&h, &first, headers);
		if (check_target(&h, err) < 0)
			return -1;
		int status = run_hop(http, &h, headers, err);
		char *next = NULL;
		if (status == 0 && is_redirect(x->status)) {
			next = follow(http, &h, err);
			status = next ? 0 : -1;
		}
		free(h.location);
		if (status < 0)
			return -1;
		if (!next) {
			snprintf(x->final_url, sizeof(x->final_url), "%s",
				strlen(url) < sizeof(x->final_url) ? url : "");
			return 0;
		}
		free(url);
		url = next;
		if (hops == EXCHANGE_REDIRECTS_MAX) {
			error_set(err, ERROR_UNAVAILABLE, "more than %d redirects",
				EXCHANGE_REDIRECTS_MAX);
			return fail(x, DATA_FAILED);
		}
	}
}
