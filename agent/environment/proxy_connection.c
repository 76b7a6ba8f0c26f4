// SPDX-License-Identifier: Apache-2.0
//
// One connection of a build's tool, in a thread of its own. A server of our own and not a
// library's: what build scripts send is hostile, and here each wait has one limit, for the whole
// head and for the whole answer; a byte now and then does not prolong it.
#include "agent/environment/proxy_internal.h"
#include "agent/environment/proxy_request.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"
#include "base/weaken.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	IDLE_MS = 60 * 1000,  // for the first byte of a request
	HEAD_MS = 5 * 1000,   // from there to the end of its head
	STALL_MS = 60 * 1000, // an answer, and for each
	SLOWEST = 16,	      // bytes of it one millisecond more
	SEND_MOST = 1024 * 1024,
};

struct connection {
	struct proxy *proxy;
	int fd;
	unsigned port;
	struct buffer in; // what has come and was not read
};

static bool wait_for(int fd, short events, int64_t deadline)
{
	struct pollfd p = {.fd = fd, .events = events};
	for (;;) {
		int64_t left = deadline - now_ms();
		if (left <= 0)
			return false;
		int n = poll(&p, 1, left > 1000 ? 1000 : (int)left);
		if (n > 0)
			return true;
		if (n < 0 && errno != EINTR)
			return false;
	}
}

static bool send_bytes(struct connection *c, const char *data, size_t size, int64_t deadline)
{
	while (size) {
		ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		} else if (!wait_for(c->fd, POLLOUT, deadline)) {
			return false;
		}
	}
	return true;
}

static bool send_file(struct connection *c, int fd, uint64_t first, uint64_t size, int64_t deadline)
{
	off_t offset = (off_t)first;
	while (size) {
		ssize_t n = sendfile(c->fd, fd, &offset, size < SEND_MOST ? size : SEND_MOST);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return false;
		if (n > 0)
			size -= (uint64_t)n;
		else if (!wait_for(c->fd, POLLOUT, deadline))
			return false;
	}
	return true;
}

static const char *reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} reasons[] = {{200, "OK"}, {206, "Partial Content"}, {304, "Not Modified"},
		{400, "Bad Request"}, {403, "Forbidden"}, {404, "Not Found"},
		{405, "Method Not Allowed"}, {408, "Request Timeout"}, {413, "Content Too Large"},
		{416, "Range Not Satisfiable"}, {431, "Request Header Fields Too Large"},
		{502, "Bad Gateway"}, {503, "Service Unavailable"}, {504, "Gateway Timeout"},
		{505, "HTTP Version Not Supported"}, {507, "Insufficient Storage"}};
	for (size_t i = 0; i < array_size(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].text;
	return "Error";
}

static void begin(struct buffer *head, int status, bool keep)
{
	buffer_printf(head, "HTTP/1.1 %d %s\r\nServer: stoker\r\nConnection: %s\r\n", status,
		reason(status), keep ? "keep-alive" : "close");
}

static bool send_failure(
	struct connection *c, const struct proxy_request *r, int status, const char *why, bool keep)
{
	cleanup_buffer struct buffer head = {0};
	begin(&head, status, keep);
	if (status == 405)
		buffer_puts(&head, "Allow: GET, HEAD\r\n");
	buffer_printf(&head,
		"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n\r\n",
		strlen(why) + 1);
	if (!r->head)
		buffer_printf(&head, "%s\n", why);
	return send_bytes(c, head.data, head.size, now_ms() + STALL_MS) && keep;
}

// Status and range of a file for this request.
static int choose(
	const struct proxy_request *r, const struct proxy_found *f, uint64_t *first, uint64_t *size)
{
	uint64_t last = 0;
	*first = 0;
	*size = f->size;
	if (r->if_none_match && proxy_tag_in(r->if_none_match, f->etag))
		return 304;
	if (!r->range || r->head || (r->if_range && !streq(r->if_range, f->etag)))
		return 200;
	int found = proxy_range_parse(r->range, f->size, first, &last);
	if (found <= 0)
		return found < 0 ? 416 : 200;
	*size = last - *first + 1;
	return 206;
}

static bool send_found(
	struct connection *c, const struct proxy_request *r, const struct proxy_found *f, bool keep)
{
	cleanup_buffer struct buffer head = {0};
	uint64_t first, size;
	int status = choose(r, f, &first, &size);
	begin(&head, status, keep);
	buffer_printf(&head, "ETag: %s\r\nAccept-Ranges: bytes\r\n", f->etag);
	if (status == 416) {
		size = 0;
		buffer_printf(
			&head, "Content-Range: bytes */%llu\r\n", (unsigned long long)f->size);
	} else if (status == 206) {
		buffer_printf(&head, "Content-Range: bytes %llu-%llu/%llu\r\n",
			(unsigned long long)first, (unsigned long long)(first + size - 1),
			(unsigned long long)f->size);
	}
	if (status != 304)
		buffer_printf(&head, "Content-Type: %s\r\nContent-Length: %llu\r\n",
			f->content_type, (unsigned long long)size);
	buffer_puts(&head, "\r\n");
	int64_t deadline = now_ms() + STALL_MS + (int64_t)(size / SLOWEST);
	if (!send_bytes(c, head.data, head.size, deadline))
		return false;
	if (r->head || status == 304 || status == 416)
		return keep;
	bool sent = send_file(c, f->fd, first, size, deadline);
	proxy_count(c->proxy, 0, sent ? size : 0, false, false);
	return sent && keep;
}

static bool is_crowded(struct proxy *p)
{
	pthread_mutex_lock(&p->mutex);
	bool crowded = p->connections > PROXY_CONNECTIONS_MAX * 3 / 4;
	pthread_mutex_unlock(&p->mutex);
	return crowded;
}

static bool answer(struct connection *c, const struct proxy_request *r)
{
	char url[PACKAGE_URL_MAX];
	struct error err = {0};
	// So that those who wait for a connection get one.
	bool keep = r->keep_alive && !is_crowded(c->proxy);
	proxy_count(c->proxy, 0, 0, true, false);
	if (package_url_of_target(r->target, url, &err) < 0)
		return send_failure(c, r, 400, err.text, false);
	if (!proxy_allowed(c->proxy, url)) {
		error_set(&err, ERROR_DENIED,
			"%.200s is of none of the channels and indexes of this environment, nor "
			"did these lead there",
			url);
		proxy_note_trouble(c->proxy, DATA_POLICY, 0, url, &err);
		return send_failure(c, r, 403, err.text, keep);
	}
	const struct proxy_want want = {.url = url,
		.json = r->wants_json,
		.port = c->port,
		.client_fd = c->fd,
		.keep_awake = !r->old};
	struct proxy_found found;
	proxy_file_get(c->proxy, &want, &found);
	bool more = found.status == 200 ? send_found(c, r, &found, keep)
					: send_failure(c, r, found.status, found.text, keep);
	proxy_found_release(&found);
	return more;
}

// The size of the head in `in`, with its empty line; 0: it is not complete.
static size_t head_size(const struct buffer *in)
{
	const char *end = in->size ? memmem(in->data, in->size, "\r\n\r\n", 4) : NULL;
	return end ? (size_t)(end - in->data) + 4 : 0;
}

// 0 with *size; else a status, or -1: end without a word.
static int read_head(struct connection *c, size_t *size)
{
	int64_t deadline = now_ms() + (c->in.size ? HEAD_MS : IDLE_MS);
	bool began = c->in.size > 0;
	for (;;) {
		*size = head_size(&c->in);
		if (*size)
			return *size <= PROXY_HEAD_MAX ? 0 : 431;
		if (c->in.size >= PROXY_HEAD_MAX)
			return 431;
		if (!wait_for(c->fd, POLLIN, deadline))
			return began ? 408 : -1;
		ssize_t n = recv(c->fd, buffer_reserve(&c->in, 4096), 4096, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return -1;
		if (n > 0)
			buffer_commit(&c->in, (size_t)n);
		if (n > 0 && !began) {
			began = true;
			deadline = now_ms() + HEAD_MS;
		}
	}
}

static bool serve_one(struct connection *c)
{
	struct proxy_request r = {0};
	const char *why = "the head of the request did not come, or is too large";
	size_t size;
	int status = read_head(c, &size);
	if (status)
		return status > 0 && send_failure(c, &r, status, why, false);
	cleanup_free char *head = xstrndup(c->in.data, size);
	// Copied up to a NUL; the parser compares.
	status = proxy_request_parse(head, size, &r, &why);
	buffer_consume(&c->in, size);
	return status ? send_failure(c, &r, status, why, false) : answer(c, &r);
}

void proxy_connection_serve(struct proxy *p, int fd)
{
	struct connection c = {.proxy = p, .fd = fd};
	struct sockaddr_in here = {0};
	socklen_t n = sizeof(here);
	int flags = fcntl(fd, F_GETFL), on = 1;
	// Else the end of an answer waits until the client acknowledges what came before, which it
	// puts off for 40 ms: more than most files take.
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (getsockname(fd, (struct sockaddr *)&here, &n) == 0)
		c.port = ntohs(here.sin_port);
	if (flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0)
		while (serve_one(&c))
			;
	// What the client has sent beyond must not make the kernel drop our answer.
	shutdown(fd, SHUT_WR);
	buffer_release(&c.in);
	close(fd);
}
