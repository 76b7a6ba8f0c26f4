// SPDX-License-Identifier: Apache-2.0
//
// A request from its first line to its last byte. MHD calls with the target, with the head, with
// each piece of the body, with the end, and when all is over.
#include "base/log.h"
#include "base/text.h"
#include "base/time.h"
#include "controller/http/internal.h"

#include <poll.h>
#include <strings.h>
#include <sys/socket.h>

enum {
	HEAD_MAX = 12 * 1024, // beside a target of TARGET_MAX, in a pool of 32 KiB
	// What was refused is read nevertheless, up to so much, so that the client gets the answer,
	// and not the reset of a connection it is still writing to.
	DISCARD_MAX = 1024 * 1024,
	LINGER_MS = 2000,
	LINGER_BYTES = 64 * 1024 * 1024,
	BEARER_MAX = 200,
	// Of all bodies that are kept in memory: who may send one could send thousands, slowly.
	BODIES_MAX = 128 * 1024 * 1024,
};

void *handle_uri(void *server, const char *uri, struct MHD_Connection *c)
{
	struct request_internal *q = xcalloc(1, sizeof(*q));
	q->server = server;
	q->mhd = c;
	q->connection =
		MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
	q->request = (struct request){
		.internal = q, .controller = q->server->options.controller, .who.role = ROLE_NONE};
	q->uri = xstrndup(uri, TARGET_MAX + 1);
	q->started = now_ms();
	return q;
}

struct head {
	size_t size, lengths, encodings;
};

static enum MHD_Result count_header(
	void *data, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct head *h = data;
	(void)kind;
	h->size += strlen(name) + (value ? strlen(value) : 0);
	h->lengths += strcasecmp(name, "Content-Length") == 0;
	h->encodings += strcasecmp(name, "Transfer-Encoding") == 0;
	return MHD_YES;
}

// A proxy in front that reads a contradiction in another way than we do sees other requests than we
// do.
static int check_head(struct request_internal *q, struct error *err)
{
	struct head h = {0};
	MHD_get_connection_values(q->mhd, MHD_HEADER_KIND, count_header, &h);
	if (h.lengths + h.encodings > 1)
		return error_set(err, ERROR_INVALID, "the body's length is told twice");
	return h.size > HEAD_MAX ? error_set(err, ERROR_LIMIT, "the headers are over 12 KiB") : 0;
}

static bool has_body(const struct request_internal *q, uint64_t *length)
{
	const char *text = request_header(&q->request, "Content-Length");
	*length = UINT64_MAX;
	if (text && parse_u64(text, length))
		return *length > 0;
	return request_header(&q->request, "Transfer-Encoding") != NULL;
}

static bool method_fits(const char *route, const char *method, bool head)
{
	return streq(route, method) || (head && streq(route, "GET"));
}

// Finds the route; those of the same path with other methods are for the header Allow.
static int find_route(struct request_internal *q, const char *method, struct error *err)
{
	struct request *r = &q->request;
	cleanup_buffer struct buffer allowed = {0};
	bool head = streq(method, "HEAD");
	for (const struct route *const *table = q->server->options.routes; *table; table++) {
		for (const struct route *route = *table; route->method; route++) {
			struct parameters p;
			if (!route_match(&r->arena, route->pattern, &q->target, &p))
				continue;
			if (method_fits(route->method, method, head)) {
				q->route = route;
				q->parameters = p;
				if (streq(route->method, method))
					return 0;
			}
			buffer_printf(&allowed, "%s%s", allowed.size ? ", " : "", route->method);
		}
	}
	if (q->route)
		return 0;
	if (!allowed.size)
		return error_set(err, ERROR_NOT_FOUND, "there is no such path");
	reply_header(r, "Allow", allowed.data);
	q->error_status = 405;
	return error_set(err, ERROR_INVALID, "%s is not for this path", method);
}

static int refuse_token(struct request *r, struct error *err, const char *why)
{
	r->code = "unauthenticated";
	return error_set(err, ERROR_DENIED, "%s", why);
}

static int check_rate(struct request_internal *q, struct error *err)
{
	struct request *r = &q->request;
	bool machine = r->who.role & (ROLE_NODE | ROLE_RUN | ROLE_METRICS);
	double rate = machine ? q->server->options.node_rate : q->server->options.user_rate;
	q->retry_after_ms =
		rate > 0 ? rates_take(q->server->rates, r->who.token, rate, now_ms()) : 0;
	if (q->retry_after_ms == 0)
		return 0;
	r->code = "rate_limited";
	return error_set(err, ERROR_LIMIT, "over %g requests a second", rate);
}

static int check_token(struct request_internal *q, struct error *err)
{
	struct request *r = &q->request;
	if (q->route->roles & ROLE_NONE)
		return 0;
	const char *header = request_header(r, "Authorization");
	if (!header || strncasecmp(header, "Bearer ", 7) != 0)
		return refuse_token(r, err, "a bearer token is needed");
	const char *token = header + 7 + strspn(header + 7, " ");
	if (strnlen(token, BEARER_MAX) == BEARER_MAX)
		return refuse_token(r, err, "the token is none of ours");
	if (identity_find(r->controller, token, &r->who, err) < 0) {
		if (err->kind == ERROR_DENIED && !streq(err->text, "stale"))
			r->code = "unauthenticated";
		return -1;
	}
	if (check_rate(q, err) < 0)
		return -1;
	return r->who.role & q->route->roles ? 0
					     : error_set(err, ERROR_DENIED, "not for the role %s",
						       role_name(r->who.role));
}

static int check_length(struct request_internal *q, uint64_t length, struct error *err)
{
	if (length != UINT64_MAX && length > q->route->body_max)
		return error_set(
			err, ERROR_LIMIT, "the body is over %zu bytes", q->route->body_max);
	return 0;
}

static int prepare(struct request_internal *q, const char *method, uint64_t length)
{
	struct error *err = &q->error;
	struct request *r = &q->request;
	if (q->server->stopping)
		return error_set(err, ERROR_UNAVAILABLE, "the controller is stopping");
	if (target_parse(&r->arena, q->uri, &q->target, err) < 0 || check_head(q, err) < 0 ||
		find_route(q, method, err) < 0 || check_token(q, err) < 0 ||
		check_length(q, length, err) < 0)
		return -1;
	if (!q->route->begin)
		return 0;
	q->route_begun = true;
	return q->route->begin(r, err);
}

// The head is here. If it is refused, should the answer go out now, before the body?
static enum MHD_Result begin(struct request_internal *q, const char *method)
{
	uint64_t length;
	bool body = has_body(q, &length);
	watch_phase(q->connection, BUSY);
	request_patience(q, true);
	q->begun = true;
	q->server->busy++;
	q->failed = prepare(q, method, body ? length : 0) < 0;
	request_patience(q, false);
	if (body)
		watch_phase(q->connection, BODY);
	if (!q->failed || !body)
		return MHD_YES;
	if (length <= DISCARD_MAX && !request_header(&q->request, "Expect"))
		return MHD_YES;
	q->must_close = true;
	reply_error(q);
	return reply_send(q);
}

static int take_piece(struct request_internal *q, const char *data, size_t size)
{
	struct request *r = &q->request;
	if (q->received > q->route->body_max)
		return error_set(
			&q->error, ERROR_LIMIT, "the body is over %zu bytes", q->route->body_max);
	if (q->route->piece)
		return q->route->piece(r, data, size, &q->error);
	q->held += size;
	if (atomic_fetch_add(&q->server->held, size) + size > BODIES_MAX)
		return error_set(&q->error, ERROR_UNAVAILABLE, "too many large bodies at once");
	buffer_append(&r->body, data, size);
	return 0;
}

// Once something was read of a body MHD takes no answer until its end; a body without one is cut
// off.
static enum MHD_Result piece(struct request_internal *q, const char *data, size_t size)
{
	q->received += size;
	q->connection->received += size;
	if (!q->failed) {
		request_patience(q, true);
		q->failed = take_piece(q, data, size) < 0;
		request_patience(q, false);
	}
	uint64_t most = q->route ? q->route->body_max : 0;
	return q->failed && q->received > most + DISCARD_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result finish(struct request_internal *q)
{
	watch_phase(q->connection, BUSY);
	request_patience(q, true);
	if (!q->failed)
		q->failed = q->route->handle(&q->request, &q->error) < 0;
	if (!q->failed && !q->response)
		q->failed = error_set(&q->error, ERROR_SYSTEM, "there is no answer") < 0;
	if (q->failed)
		reply_error(q);
	request_patience(q, false);
	return reply_send(q);
}

enum MHD_Result handle_request(void *server, struct MHD_Connection *c, const char *url,
	const char *method, const char *version, const char *data, size_t *size, void **context)
{
	struct request_internal *q = *context;
	(void)server;
	(void)c;
	(void)url;
	(void)version;
	if (!q->begun)
		return begin(q, method);
	if (*size == 0)
		return finish(q);
	enum MHD_Result rc = piece(q, data, *size);
	*size = 0;
	return rc;
}

// Closing a socket with bytes unread resets the connection, and the client may lose the answer.
static void linger(int fd)
{
	int64_t end = now_ms() + LINGER_MS, left;
	uint64_t bytes = 0;
	char buffer[16 * 1024];
	shutdown(fd, SHUT_WR);
	while ((left = end - now_ms()) > 0 && bytes < LINGER_BYTES) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, (int)left) <= 0)
			return;
		ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
		if (n <= 0)
			return;
		bytes += (uint64_t)n;
	}
}

void handle_completed(void *server, struct MHD_Connection *c, void **context,
	enum MHD_RequestTerminationCode code)
{
	struct server *s = server;
	struct request_internal *q = *context;
	(void)c;
	if (!q)
		return;
	*context = NULL;
	if (q->must_close && code == MHD_REQUEST_TERMINATED_COMPLETED_OK)
		linger(q->connection->fd);
	reply_end_stream(q);
	if (q->route_begun && q->route->release)
		q->route->release(&q->request);
	reply_drop(q);
	metrics_request(s->metrics, q->status, now_ms() - q->started, q->received);
	log_debug("%s: %d", q->route ? q->route->pattern : "no route", q->status);
	watch_phase(q->connection, IDLE);
	arena_release(&q->request.arena);
	buffer_release(&q->request.body);
	s->busy -= q->begun;
	s->held -= q->held;
	free(q->uri);
	free(q);
}
