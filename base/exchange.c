// SPDX-License-Identifier: Apache-2.0
#include "base/exchange.h"

#include "base/curl.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>
#include <strings.h>
#include <unistd.h>

enum {
	CONNECT_MS = 10 * 1000,
	STALL_MS = 30 * 1000,
	BODY_MAX = 1024 * 1024,
	REFUSAL_MAX = 64 * 1024, // of the body of an answer that is no success
	HEAD_MAX = 64 * 1024,
	BUFFER = 512 * 1024,
	TURN_MS = 1000,
};

struct exchange {
	const struct curl_functions *curl;
	CURLM *multi;
	char *ca, *unix_socket;
	int64_t stall_ms, connect_ms;
	int cancel_fd;
};

// One that is under way.
struct turn {
	const struct exchange_request *request;
	struct exchange_reply *reply;
	struct error *err;
	uint64_t at, head;
	int64_t active; // the last byte in either direction
	bool failed;	// `err` is set
	char text[CURL_ERROR_SIZE];
};

struct exchange *exchange_new(const struct exchange_settings *s, struct error *err)
{
	const struct curl_functions *curl = curl_load(err);
	CURLM *multi = curl ? curl->multi_init() : NULL;
	if (curl && !multi)
		error_set(err, ERROR_SYSTEM, "libcurl: cannot make a multi handle");
	if (!multi)
		return NULL;
	struct exchange *x = xcalloc(1, sizeof(*x));
	*x = (struct exchange){
		.curl = curl,
		.multi = multi,
		.ca = s->ca ? xstrdup(s->ca) : NULL,
		.unix_socket = s->unix_socket ? xstrdup(s->unix_socket) : NULL,
		.stall_ms = s->stall_ms ? s->stall_ms : STALL_MS,
		.connect_ms = s->connect_ms ? s->connect_ms : CONNECT_MS,
		.cancel_fd = s->cancel_fd,
	};
	return x;
}

void exchange_free(struct exchange *x)
{
	if (!x)
		return;
	x->curl->multi_cleanup(x->multi);
	free(x->ca);
	free(x->unix_socket);
	free(x);
}

void exchange_reply_release(struct exchange_reply *r)
{
	buffer_release(&r->body);
}

static bool is_success(const struct turn *t)
{
	return t->reply->status >= 200 && t->reply->status < 300;
}

// ---- what curl asks and tells

static size_t on_send(char *to, size_t one, size_t size, void *data)
{
	struct turn *t = data;
	const struct exchange_request *q = t->request;
	uint64_t left = q->body_size - t->at;
	size_t n = one * size < left ? one * size : (size_t)left;
	t->active = now_ms();
	if (q->fd < 0) {
		memcpy(to, (const char *)q->body + t->at, n);
	} else if (n) {
		ssize_t got = pread(q->fd, to, n, (off_t)(q->fd_offset + t->at));
		if (got <= 0) {
			t->failed = true;
			if (got < 0)
				error_set_errno(t->err, errno, "read what is sent");
			else
				error_set(t->err, ERROR_INTEGRITY,
					"the file shrank while it was sent");
			return CURL_READFUNC_ABORT;
		}
		n = (size_t)got;
	}
	t->at += n;
	return n;
}

// curl sends a body again from the start where a kept connection turns out to be closed.
static int on_seek(void *data, curl_off_t offset, int origin)
{
	struct turn *t = data;
	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->request->body_size)
		return CURL_SEEKFUNC_FAIL;
	t->at = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

static void copy_value(char *to, size_t size, const char *value, size_t n)
{
	if (n < size)
		snprintf(to, size, "%.*s", (int)n, value);
}

static void read_field(struct exchange_reply *r, const char *line, size_t size)
{
	const char *colon = memchr(line, ':', size);
	if (!colon)
		return;
	size_t name = (size_t)(colon - line);
	const char *value = colon + 1, *end = line + size;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	while (end > value && strchr(" \t\r\n", end[-1]))
		end--;
	size_t n = (size_t)(end - value);
	uint64_t number;
	bool numeric = parse_u64_n(value, n, &number) && number <= INT64_MAX / 1000;
#define FIELD(s) (name == sizeof(s) - 1 && strncasecmp(line, s, name) == 0)
	if (FIELD("etag"))
		copy_value(r->etag, sizeof(r->etag), value, n);
	else if (FIELD("content-type"))
		copy_value(r->media_type, sizeof(r->media_type), value, n);
	else if (FIELD("retry-after") && numeric)
		r->retry_after_ms = (int64_t)number * 1000;
	else if (FIELD("content-length") && numeric)
		r->length = (int64_t)number;
	else if (FIELD("upload-offset") && numeric)
		r->upload_offset = (int64_t)number;
#undef FIELD
}

static size_t on_header(char *line, size_t one, size_t size, void *data)
{
	struct turn *t = data;
	size *= one;
	t->active = now_ms();
	t->head += size;
	if (t->head > HEAD_MAX) {
		t->failed = true;
		error_set(t->err, ERROR_LIMIT, "the answer's head is over %d bytes", HEAD_MAX);
		return 0;
	}
	uint64_t status;
	const char *space = memchr(line, ' ', size);
	if (size > 5 && strncmp(line, "HTTP/", 5) == 0) {
		if (space && parse_u64_n(space + 1, 3, &status))
			t->reply->status = (int)status;
	} else {
		read_field(t->reply, line, size);
	}
	return size;
}

static size_t on_body(char *bytes, size_t one, size_t size, void *data)
{
	struct turn *t = data;
	const struct exchange_request *q = t->request;
	struct buffer *body = &t->reply->body;
	size *= one;
	t->active = now_ms();
	if (!is_success(t)) {
		size_t room = body->size < REFUSAL_MAX ? REFUSAL_MAX - body->size : 0;
		buffer_append(body, bytes, size < room ? size : room);
		return size;
	}
	if (q->sink) {
		t->failed = q->sink(q->data, bytes, size, t->err) < 0;
		return t->failed ? 0 : size;
	}
	if (body->size + size > (q->limit ? q->limit : BODY_MAX)) {
		t->failed = true;
		error_set(t->err, ERROR_LIMIT, "the answer is over %llu bytes",
			(unsigned long long)(q->limit ? q->limit : BODY_MAX));
		return 0;
	}
	buffer_append(body, bytes, size);
	return size;
}

// ---- the exchange

static void set_body(const struct exchange *x, CURL *easy, struct turn *t)
{
	const struct exchange_request *q = t->request;
	if (!q->body && q->fd < 0) {
		// A method with a body and none to send: say so, as servers want a length.
		if (streq(q->method, "POST") || streq(q->method, "PUT"))
			x->curl->easy_setopt(easy, CURLOPT_POSTFIELDS, "");
		return;
	}
	x->curl->easy_setopt(easy, CURLOPT_UPLOAD, 1L);
	x->curl->easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->body_size);
	x->curl->easy_setopt(easy, CURLOPT_READFUNCTION, on_send);
	x->curl->easy_setopt(easy, CURLOPT_READDATA, t);
	x->curl->easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
	x->curl->easy_setopt(easy, CURLOPT_SEEKDATA, t);
	x->curl->easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)BUFFER);
}

static void set_connection(const struct exchange *x, CURL *easy, const struct exchange_request *q)
{
	const struct curl_functions *curl = x->curl;
	curl->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl->easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)x->connect_ms);
	curl->easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)BUFFER);
	curl->easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	if (x->ca)
		curl->easy_setopt(easy, CURLOPT_CAINFO, x->ca);
	if (x->unix_socket)
		curl->easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, x->unix_socket);
	if (q->no_certificate_check) {
		curl->easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl->easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (q->sign)
		curl->easy_setopt(easy, CURLOPT_AWS_SIGV4, q->sign);
	if (q->user)
		curl->easy_setopt(easy, CURLOPT_USERPWD, q->user);
}

static void set_up(
	const struct exchange *x, CURL *easy, struct turn *t, const struct curl_slist *headers)
{
	const struct curl_functions *curl = x->curl;
	const struct exchange_request *q = t->request;
	set_connection(x, easy, q);
	set_body(x, easy, t);
	curl->easy_setopt(easy, CURLOPT_URL, q->url);
	curl->easy_setopt(easy, CURLOPT_CUSTOMREQUEST, q->method);
	if (streq(q->method, "HEAD"))
		curl->easy_setopt(easy, CURLOPT_NOBODY, 1L);
	curl->easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl->easy_setopt(easy, CURLOPT_HEADERDATA, t);
	curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl->easy_setopt(easy, CURLOPT_WRITEDATA, t);
	curl->easy_setopt(easy, CURLOPT_ERRORBUFFER, t->text);
}

static int explain(const struct exchange *x, struct turn *t, CURLcode code)
{
	const char *text = *t->text ? t->text : x->curl->easy_strerror(code);
	switch (code) {
	case CURLE_PEER_FAILED_VERIFICATION:
		return error_set(t->err, ERROR_DENIED, "%s", text);
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return error_set(t->err, ERROR_INVALID, "%s: %s", t->request->url, text);
	default:
		return error_set(t->err, ERROR_UNAVAILABLE, "%s", text);
	}
}

// Wait for what curl waits for, or for who gives it up. -1 with the error.
static int wait_more(struct exchange *x, struct turn *t)
{
	struct curl_waitfd cancel = {.fd = x->cancel_fd, .events = CURL_WAIT_POLLIN};
	int64_t patience = x->stall_ms + (t->reply->status ? 0 : t->request->patience_ms);
	int64_t left = t->active + patience - now_ms();
	if (left <= 0)
		return error_set(t->err, ERROR_UNAVAILABLE, "no byte for %lld s",
			(long long)(patience / 1000));
	x->curl->multi_poll(
		x->multi, &cancel, x->cancel_fd >= 0, (int)(left < TURN_MS ? left : TURN_MS), NULL);
	if (x->cancel_fd >= 0 && cancel.revents)
		return error_set(t->err, ERROR_UNAVAILABLE, "given up");
	return 0;
}

static int perform(struct exchange *x, struct turn *t)
{
	for (;;) {
		int running, left;
		CURLMcode code = x->curl->multi_perform(x->multi, &running);
		if (code != CURLM_OK)
			return error_set(
				t->err, ERROR_SYSTEM, "libcurl: %s", x->curl->multi_strerror(code));
		const CURLMsg *m = x->curl->multi_info_read(x->multi, &left);
		if (t->failed)
			return -1;
		if (m && m->msg == CURLMSG_DONE)
			return m->data.result == CURLE_OK ? 0 : explain(x, t, m->data.result);
		if (wait_more(x, t) < 0)
			return -1;
	}
}

static struct curl_slist *make_headers(const struct exchange *x, const struct exchange_request *q)
{
	// Without "Expect" curl sends the body at once instead of waiting for a word first. A
	// signed request has it: libcurl 7.88 signs a header that is taken away, and does not send
	// it.
	struct curl_slist *list = q->sign ? NULL : x->curl->slist_append(NULL, "Expect:");
	for (size_t i = 0; q->headers && q->headers[i]; i++)
		list = x->curl->slist_append(list, q->headers[i]);
	return list;
}

int exchange_do(struct exchange *x, const struct exchange_request *q, struct exchange_reply *reply,
	struct error *err)
{
	buffer_clear(&reply->body);
	*reply = (struct exchange_reply){
		.body = reply->body, .retry_after_ms = -1, .length = -1, .upload_offset = -1};
	struct turn t = {.request = q, .reply = reply, .err = err, .active = now_ms()};
	CURL *easy = x->curl->easy_init();
	if (!easy)
		return error_set(err, ERROR_SYSTEM, "libcurl: cannot make a handle");
	struct curl_slist *headers = make_headers(x, q);
	set_up(x, easy, &t, headers);
	x->curl->multi_add_handle(x->multi, easy);
	int rc = perform(x, &t);
	x->curl->multi_remove_handle(x->multi, easy);
	x->curl->easy_cleanup(easy);
	x->curl->slist_free_all(headers);
	reply->sent = t.at;
	return rc;
}
