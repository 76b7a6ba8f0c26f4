// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/transfer.h"

#include "base/memory.h"
#include "base/text.h"
#include "base/time.h"
#include "oci/registry/url.h"

#include <unistd.h>

enum {
	RECEIVE_BUFFER = 512 * 1024,
	SEND_BUFFER = 512 * 1024,
	SWALLOW_MAX = 256 * 1024,      // of an error's body, to keep the connection
	CURL_VERSION_LEAST = 0x075500, // CURLOPT_PROTOCOLS_STR
	ACTIVE_BYTES = 1000, // in a stall time; a byte now and then would hold a pull for ever
};

struct transfer {
	struct http *http;
	struct transfer *next;
	CURL *easy;
	struct curl_slist *headers;
	const struct transfer_events *events;
	void *data;
	struct transfer_upload upload;
	uint64_t upload_at; // bytes of it that curl has taken
	struct response response;
	int64_t active; // when it began, its head was complete or its last ACTIVE_BYTES had come
	size_t recent;	// bytes since then
	size_t swallowed;
	bool begun;    // events->begin() was called
	bool complete; // curl is done, or never began
	bool cancelled;
	bool enough; // ended by us: the head was all we wanted
	bool retry;
	const char *ca_remedy;
	CURLcode code;
	struct error error; // of an event or of our own
	char curl_text[CURL_ERROR_SIZE];
};

int http_open(struct http *h, struct error *err)
{
	h->curl = curl_load(err);
	if (!h->curl)
		return -1;
	if (h->curl->version_info(CURLVERSION_NOW)->version_num < CURL_VERSION_LEAST)
		return error_set(err, ERROR_SYSTEM, "libcurl %s is too old; 7.85 is needed",
			h->curl->version_info(CURLVERSION_NOW)->version);
	h->multi = h->curl->multi_init();
	if (!h->multi)
		return error_set(err, ERROR_SYSTEM, "libcurl: cannot make a multi handle");
	return 0;
}

static void transfer_free(struct transfer *t)
{
	const struct curl_functions *curl = t->http->curl;
	if (t->easy) {
		curl->multi_remove_handle(t->http->multi, t->easy);
		curl->easy_cleanup(t->easy);
	}
	curl->slist_free_all(t->headers);
	response_release(&t->response);
	free(t);
}

void http_close(struct http *h)
{
	while (h->transfers) {
		struct transfer *t = h->transfers;
		h->transfers = t->next;
		transfer_free(t);
	}
	if (h->multi)
		h->curl->multi_cleanup(h->multi);
	h->multi = NULL;
}

static void received(struct transfer *t, size_t size)
{
	t->http->received += size;
	t->recent += size;
	if (t->recent < ACTIVE_BYTES)
		return;
	t->active = t->http->now;
	t->recent = 0;
}

static bool success(const struct response *r)
{
	return r->status >= 200 && r->status < 300;
}

static int begin(struct transfer *t)
{
	if (t->begun || !success(&t->response))
		return 0;
	t->begun = true;
	return t->events->begin(t->data, &t->response, &t->error);
}

static size_t on_header(char *line, size_t one, size_t size, void *data)
{
	struct transfer *t = data;
	(void)one;
	if (t->cancelled)
		return 0;
	received(t, size);
	if (response_line(&t->response, line, size, &t->error) < 0)
		return 0;
	if (!t->response.complete)
		return size;
	t->active = t->http->now; // the body has a stall time of its own
	t->recent = 0;
	return begin(t) < 0 ? 0 : size;
}

static size_t on_body(char *bytes, size_t one, size_t size, void *data)
{
	struct transfer *t = data;
	(void)one;
	if (t->cancelled)
		return 0;
	received(t, size);
	if (!success(&t->response)) {
		t->swallowed += size;
		t->enough = t->swallowed > SWALLOW_MAX;
		return t->enough ? 0 : size;
	}
	return begin(t) < 0 || t->events->body(t->data, bytes, size, &t->error) < 0 ? 0 : size;
}

static size_t on_upload(char *buffer, size_t one, size_t size, void *data)
{
	struct transfer *t = data;
	uint64_t left = t->upload.size - t->upload_at;
	if (t->cancelled)
		return CURL_READFUNC_ABORT;
	size *= one;
	if (size > left)
		size = (size_t)left;
	if (!size)
		return 0;
	ssize_t n = pread(t->upload.fd, buffer, size, (off_t)(t->upload.offset + t->upload_at));
	if (n <= 0) {
		error_set_errno(&t->error, n < 0 ? errno : EIO, "read what is uploaded");
		return CURL_READFUNC_ABORT;
	}
	t->upload_at += (uint64_t)n;
	t->active = t->http->now;
	if (t->upload.sent)
		t->upload.sent(t->data, t->upload_at);
	return (size_t)n;
}

static void add_line(struct transfer *t, const char *line)
{
	struct curl_slist *headers = t->http->curl->slist_append(t->headers, line);
	if (!headers)
		abort();
	t->headers = headers;
}

static void add_header(struct transfer *t, const char *name, const char *value)
{
	if (!value)
		return;
	// "Name:" is how curl is told to leave out one of its own.
	cleanup_free char *line = xasprintf("%s:%s%s", name, *value ? " " : "", value);
	add_line(t, line);
}

static const char *proxy_for(const struct http *h, const struct transfer_options *o)
{
	struct url_origin origin;
	struct error ignored;
	if (url_origin_of(h->curl, o->url, &origin, &ignored) < 0 ||
		url_host_is_loopback(origin.host))
		return ""; // "" is how curl is told to take none
	const char *proxy = streq(origin.scheme, "https") ? h->https_proxy : h->http_proxy;
	return o->proxy ? o->proxy : proxy ? proxy : "";
}

static CURLcode set_connection(struct transfer *t, const struct transfer_options *o)
{
	const struct http *h = t->http;
	CURLcode code = CURLE_OK;
#define SET(option, value) (code = code ? code : h->curl->easy_setopt(t->easy, option, value))
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	// HTTP/2 would put all ranges on one connection, which is what several ranges are to avoid.
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_BUFFERSIZE, (long)RECEIVE_BUFFER);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)h->stall_ms);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	if (o->open_socket) {
		SET(CURLOPT_OPENSOCKETFUNCTION, o->open_socket);
		SET(CURLOPT_OPENSOCKETDATA, o->socket_data);
	}
	SET(CURLOPT_PROXY, proxy_for(h, o));
	// A proxy named for this host is taken whatever the environment says.
	SET(CURLOPT_NOPROXY, !o->proxy && h->no_proxy ? h->no_proxy : "");
	if (o->ca) {
		struct curl_blob ca = {.data = (void *)(uintptr_t)o->ca,
			.len = strlen(o->ca),
			.flags = CURL_BLOB_NOCOPY};
		SET(CURLOPT_CAINFO_BLOB, &ca);
	}
	return code;
}

static CURLcode set_exchange(struct transfer *t, const struct transfer_options *o)
{
	const struct http *h = t->http;
	CURLcode code = CURLE_OK;
	SET(CURLOPT_URL, o->url);
	SET(CURLOPT_USERAGENT, "stoker/" STOKER_VERSION);
	if (o->method == TRANSFER_HEAD)
		SET(CURLOPT_NOBODY, 1L);
	if (o->method == TRANSFER_POST)
		SET(CURLOPT_COPYPOSTFIELDS, o->form);
	if (o->method == TRANSFER_PUT || o->method == TRANSFER_PATCH) {
		SET(CURLOPT_UPLOAD, 1L);
		SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)t->upload.size);
		SET(CURLOPT_READFUNCTION, on_upload);
		SET(CURLOPT_READDATA, t);
		// On a connection used before, curl would send the body a second time by itself if
		// the first got no answer, behind what the registry has of it.
		SET(CURLOPT_FRESH_CONNECT, 1L);
		SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)SEND_BUFFER);
	}
	if (o->method == TRANSFER_PATCH)
		SET(CURLOPT_CUSTOMREQUEST, "PATCH");
	SET(CURLOPT_HTTPHEADER, t->headers);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_ERRORBUFFER, t->curl_text);
	SET(CURLOPT_PRIVATE, t);
#undef SET
	return code;
}

struct transfer *transfer_start(struct http *h, const struct transfer_options *o,
	const struct transfer_events *events, void *data)
{
	struct transfer *t = xcalloc(1, sizeof(*t));
	t->http = h;
	t->events = events;
	t->data = data;
	t->active = h->now;
	t->next = h->transfers;
	h->transfers = t;
	t->easy = h->curl->easy_init();
	if (!t->easy)
		abort();
	add_header(t, "Authorization", o->authorization);
	add_header(t, "Accept", o->accept);
	add_header(t, "Range", o->range);
	for (const char *const *line = o->headers; line && *line; line++)
		add_line(t, *line);
	t->ca_remedy =
		o->ca_remedy ? o->ca_remedy : "name its CA under registries.hosts in agent.yaml";
	if (o->upload) {
		t->upload = *o->upload;
		add_header(t, "Content-Type", o->upload->content_type);
		add_header(t, "Content-Range", o->upload->content_range);
		add_header(t, "Expect", ""); // a second of waiting for servers that ignore it
	}
	t->code = set_connection(t, o);
	if (t->code == CURLE_OK)
		t->code = set_exchange(t, o);
	if (t->code == CURLE_OK && h->curl->multi_add_handle(h->multi, t->easy) != CURLM_OK)
		t->code = CURLE_FAILED_INIT;
	t->complete = t->code != CURLE_OK; // told in the next turn
	return t;
}

void transfer_cancel(struct transfer *t)
{
	if (t)
		t->cancelled = true;
}

static bool worth_a_retry(CURLcode code)
{
	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_PARTIAL_FILE:
	case CURLE_WEIRD_SERVER_REPLY:
		return true;
	default:
		return false;
	}
}

// The reason in words, from curl where it says more than its code.
static void explain(struct transfer *t)
{
	const char *text = *t->curl_text ? t->curl_text : t->http->curl->easy_strerror(t->code);
	t->retry = worth_a_retry(t->code);
	switch (t->code) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_ISSUER_ERROR:
		error_set(&t->error, ERROR_DENIED,
			"the server's certificate is not trusted: %s; %s", text, t->ca_remedy);
		break;
	case CURLE_PARTIAL_FILE:
		error_set(&t->error, ERROR_UNAVAILABLE, "the answer was cut short: %s", text);
		break;
	case CURLE_OUT_OF_MEMORY: // what 7.88 says to a header line of over 100 KiB
		error_set(&t->error, ERROR_LIMIT, "the answer is over a limit: %s", text);
		break;
	default:
		error_set(&t->error, ERROR_UNAVAILABLE, "%s", text);
	}
}

static void finish(struct transfer *t)
{
	if (t->cancelled)
		return;
	if (t->error.kind != ERROR_NONE) {
		t->retry = t->error.kind == ERROR_UNAVAILABLE;
	} else if (t->code != CURLE_OK && !t->enough) {
		explain(t);
	} else if (!t->response.complete) { // to curl, a connection closed there is an end
		error_set(&t->error, ERROR_UNAVAILABLE, "the head of the answer was cut short");
		t->retry = true;
	}
	bool failed = t->error.kind != ERROR_NONE;
	t->events->done(t->data, &t->response, failed ? &t->error : NULL, t->retry);
}

// Ends are told one at a time from the top, because each event may start and cancel others.
static void tell_ends(struct http *h)
{
	struct transfer **link = &h->transfers;
	while (*link) {
		struct transfer *t = *link;
		if (!t->complete && !t->cancelled) {
			link = &t->next;
			continue;
		}
		*link = t->next;
		finish(t);
		transfer_free(t);
		link = &h->transfers;
	}
}

static void find_stalls(struct http *h)
{
	for (struct transfer *t = h->transfers; t; t = t->next) {
		if (t->complete || h->now - t->active < h->stall_ms)
			continue;
		long long seconds = (long long)(h->stall_ms / 1000);
		if (t->recent)
			error_set(&t->error, ERROR_UNAVAILABLE, "fewer than %d bytes in %lld s",
				ACTIVE_BYTES, seconds);
		else
			error_set(&t->error, ERROR_UNAVAILABLE, "no byte for %lld s", seconds);
		t->response.stalled = true;
		t->complete = true;
	}
}

int64_t http_deadline(const struct http *h)
{
	int64_t first = INT64_MAX;
	for (const struct transfer *t = h->transfers; t; t = t->next) {
		int64_t at = t->complete || t->cancelled ? 0 : t->active + h->stall_ms;
		first = at < first ? at : first;
	}
	return first;
}

int http_turn(struct http *h, struct error *err)
{
	int running, left;
	CURLMcode code = h->curl->multi_perform(h->multi, &running);
	if (code != CURLM_OK)
		return error_set(err, ERROR_SYSTEM, "libcurl: %s", h->curl->multi_strerror(code));
	for (CURLMsg *m; (m = h->curl->multi_info_read(h->multi, &left));) {
		char *owner = NULL;
		if (m->msg != CURLMSG_DONE)
			continue;
		CURLcode result = m->data.result;
		h->curl->easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &owner);
		struct transfer *t = (struct transfer *)(void *)owner;
		t->complete = true;
		t->code = result;
	}
	find_stalls(h);
	tell_ends(h);
	return 0;
}
