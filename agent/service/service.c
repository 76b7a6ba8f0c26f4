// SPDX-License-Identifier: Apache-2.0
#include "agent/service/service.h"

#include "base/exchange.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>

enum { FIRST_WAIT_MS = 250, WAIT_MS_MAX = 5000, ANSWER_MAX = 64 * 1024 * 1024 };

struct service {
	struct exchange *exchange;
	char *url, *authorization; // the second NULL: none
	int64_t retry_ms, offset;
	int status;
	char code[32];
};

static int check_url(const char *url, struct error *err)
{
	const char *host = starts_with(url, "https://")	 ? url + 8
			   : starts_with(url, "http://") ? url + 7
							 : NULL;
	if (!host || !*host || strpbrk(host, "@?# \t\r\n") || strlen(url) > 1024)
		return error_set(err, ERROR_INVALID,
			"\"%s\" is not the address of a controller: https://host:port", url);
	return 0;
}

struct service *service_open(const struct service_settings *s, struct error *err)
{
	if (check_url(s->url, err) < 0)
		return NULL;
	struct exchange *x = exchange_new(
		&(struct exchange_settings){
			.ca = s->ca, .stall_ms = s->stall_ms, .cancel_fd = s->cancel_fd},
		err);
	if (!x)
		return NULL;
	struct service *v = xcalloc(1, sizeof(*v));
	*v = (struct service){
		.exchange = x, .url = xstrdup(s->url), .retry_ms = s->retry_ms, .offset = -1};
	for (size_t n = strlen(v->url); n && v->url[n - 1] == '/'; n--)
		v->url[n - 1] = '\0';
	service_set_token(v, s->token);
	return v;
}

void service_close(struct service *s)
{
	if (!s)
		return;
	exchange_free(s->exchange);
	free(s->url);
	free(s->authorization);
	free(s);
}

void service_set_token(struct service *s, const char *token)
{
	free(s->authorization);
	s->authorization = token ? xasprintf("Authorization: Bearer %s", token) : NULL;
}

// ---- one request

enum { HEADERS_MAX = 12 };

struct attempt {
	struct service *service;
	const struct service_request *request;
	struct arena *arena;
	struct buffer body; // of the JSON
	uint64_t received;  // of a good answer, by the sink
};

static int on_bytes(void *data, const char *bytes, size_t size, struct error *err)
{
	struct attempt *t = data;
	t->received += size;
	return t->request->sink(t->request->data, bytes, size, err);
}

static enum error_kind kind_of(int status)
{
	switch (status) {
	case 404:
		return ERROR_NOT_FOUND;
	case 401:
	case 403:
		return ERROR_DENIED;
	case 429:
		return ERROR_UNAVAILABLE;
	default:
		return status >= 500 ? ERROR_UNAVAILABLE : ERROR_INVALID;
	}
}

// The controller's words, if these are some: what stands between us may answer too.
static int refuse(struct attempt *t, const struct exchange_reply *reply, struct error *err)
{
	struct service *s = t->service;
	struct error ignored;
	const struct json *j = reply->body.size
				       ? json_parse(t->arena, reply->body.data, reply->body.size,
						 "answer", NULL, &ignored)
				       : NULL;
	const struct json *e = j ? json_get(j, "error") : NULL;
	const char *code = json_get_string(e, "code"), *text = json_get_string(e, "message");
	snprintf(s->code, sizeof(s->code), "%s", code ? code : "");
	s->offset = reply->upload_offset;
	if (text)
		return error_set(err, kind_of(reply->status), "%s", text);
	return error_set(
		err, kind_of(reply->status), "%s answered with status %d", s->url, reply->status);
}

static void set_headers(const struct attempt *t, const char **headers)
{
	const struct service *s = t->service;
	const struct service_request *q = t->request;
	size_t n = 0;
	if (s->authorization)
		headers[n++] = s->authorization;
	if (q->json)
		headers[n++] = "Content-Type: application/json";
	else if (q->body || q->fd >= 0)
		headers[n++] = "Content-Type: application/octet-stream";
	if (q->sink && t->received)
		headers[n++] = arena_printf(
			t->arena, "Range: bytes=%llu-", (unsigned long long)t->received);
	for (size_t i = 0; q->headers && q->headers[i] && n < HEADERS_MAX; i++)
		headers[n++] = q->headers[i];
	headers[n] = NULL;
}

static int read_answer(struct attempt *t, const struct exchange_reply *reply,
	const struct json **answer, struct error *err)
{
	static const struct json_limits limits = {
		.bytes = ANSWER_MAX, .depth = 64, .nodes = 4000000};
	if (answer)
		*answer = NULL;
	if (!answer || !reply->body.size)
		return 0;
	*answer = json_parse(t->arena, reply->body.data, reply->body.size, "answer", &limits, err);
	return *answer ? 0 : error_context(err, "%s", t->service->url);
}

static int try_once(
	struct attempt *t, const struct json **answer, int64_t *retry_after_ms, struct error *err)
{
	struct service *s = t->service;
	const struct service_request *q = t->request;
	const char *headers[HEADERS_MAX + 1];
	cleanup_exchange_reply struct exchange_reply reply = {0};
	uint64_t from = t->received;
	set_headers(t, headers);
	const struct exchange_request x = {
		.method = q->method,
		.url = arena_printf(t->arena, "%s%s", s->url, q->path),
		.headers = headers,
		.body = q->json ? t->body.data : q->body,
		.body_size = q->json ? t->body.size : q->body_size,
		.fd = q->json || q->body ? -1 : q->fd,
		.fd_offset = q->fd_offset,
		.patience_ms = q->patience_ms,
		.sink = q->sink ? on_bytes : NULL,
		.data = t,
		.limit = ANSWER_MAX,
	};
	s->status = 0;
	s->offset = -1;
	*s->code = '\0';
	*retry_after_ms = -1;
	if (exchange_do(s->exchange, &x, &reply, err) < 0)
		return error_context(err, "%s", s->url);
	s->status = reply.status;
	*retry_after_ms = reply.retry_after_ms;
	if (reply.status < 200 || reply.status > 299)
		return refuse(t, &reply, err);
	if (q->sink && from && reply.status != 206)
		return error_set(err, ERROR_INTEGRITY,
			"%s: an answer that broke was not taken up again", s->url);
	s->offset = reply.upload_offset;
	return read_answer(t, &reply, answer, err);
}

int service_do(struct service *s, const struct service_request *q, struct arena *a,
	const struct json **answer, struct error *err)
{
	struct attempt t = {.service = s, .request = q, .arena = a, .received = q->sink_offset};
	int64_t until = now_ms() + s->retry_ms, wait = FIRST_WAIT_MS, after;
	int rc = q->json ? json_writer_finish(q->json, &t.body, err) : 0;
	while (rc == 0 && (rc = try_once(&t, answer, &after, err)) < 0) {
		int64_t ms = after > wait ? after : wait;
		if (err->kind != ERROR_UNAVAILABLE || now_ms() + ms > until)
			break;
		sleep_ms(ms);
		wait = wait * 2 < WAIT_MS_MAX ? wait * 2 : WAIT_MS_MAX;
		error_clear(err);
		rc = 0;
	}
	buffer_release(&t.body);
	return rc;
}

int service_call(struct service *s, const char *method, const char *path, struct json_writer *json,
	struct arena *a, const struct json **answer, struct error *err)
{
	const struct service_request q = {.method = method, .path = path, .json = json, .fd = -1};
	return service_do(s, &q, a, answer, err);
}

const char *service_code(const struct service *s)
{
	return s->code;
}

int service_status(const struct service *s)
{
	return s->status;
}

int64_t service_offset(const struct service *s)
{
	return s->offset;
}
