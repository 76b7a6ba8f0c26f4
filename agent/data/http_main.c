// SPDX-License-Identifier: Apache-2.0
//
// The helper that speaks to servers: a thread for each lane.
#include "agent/data/download_pool.h"
#include "agent/data/http.h"
#include "agent/data/http_protocol.h"
#include "base/file.h"
#include "base/message.h"
#include "base/text.h"
#include "oci/registry/confine.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

struct helper {
	struct download_pool pool;
	struct error error; // no server may be spoken to; that is all there is to say then
};

struct lane {
	struct helper *helper;
	int socket;
	pthread_t thread;
	size_t gathered; // of a body, in the packet; sent when that is full, and a few times a
			 // second
	struct data_http_packet packet;
};

struct request {
	struct download_options options;
	struct json_strings headers;
};

static int read_request(
	struct arena *a, const char *text, size_t size, struct request *r, struct error *err)
{
#define AT(member) offsetof(struct request, member)
	static const struct json_field fields[] = {
		{"url", json_decode_string, AT(options.url), JSON_REQUIRED},
		{"stall_ms", json_decode_uint64, AT(options.stall_ms), 0},
		{"local_hosts", json_decode_strings, AT(options.local_hosts), 0},
		{"first_headers", json_decode_strings, AT(options.headers), 0},
		{"headers", json_decode_strings, AT(headers), 0},
		{0},
	};
#undef AT
	struct json_decoder d = {.arena = a, .document = "request"};
	const struct json *tree = json_parse(a, text, size, "request", NULL, err);
	return tree ? json_decode_object(&d, tree, fields, true, r, err) : -1;
}

// Whoever started us is gone when it cannot be told: nobody waits for more.
static void send_packet(struct lane *l, size_t size)
{
	struct error ignored;
	const struct data_http_packet *p = &l->packet;
	size += offsetof(struct data_http_packet, piece);
	if (message_send(l->socket, p, size, NULL, 0, &ignored) < 0)
		_exit(1);
}

static int on_head(void *data, const struct download_head *head, struct error *err)
{
	struct lane *l = data;
	(void)err;
	l->packet.verb = DATA_HTTP_HEAD;
	l->packet.head = *head;
	send_packet(l, sizeof(*head));
	return 0;
}

// The one packet that comes during an exchange asks for its end.
static bool is_stopped(const struct lane *l)
{
	struct pollfd p = {.fd = l->socket, .events = POLLIN};
	return poll(&p, 1, 0) > 0;
}

// What is gathered goes.
static void flush(struct lane *l)
{
	if (!l->gathered)
		return;
	l->packet.verb = DATA_HTTP_BODY;
	l->packet.size = (uint32_t)l->gathered;
	send_packet(l, l->gathered);
	l->gathered = 0;
}

static int on_body(void *data, const char *bytes, size_t size, struct error *err)
{
	struct lane *l = data;
	for (size_t n; size; bytes += n, size -= n) {
		size_t room = DATA_HTTP_PIECE - l->gathered;
		n = size < room ? size : room;
		memcpy(l->packet.piece + l->gathered, bytes, n);
		l->gathered += n;
		if (l->gathered < DATA_HTTP_PIECE)
			continue;
		if (is_stopped(l))
			return error_set(err, ERROR_UNAVAILABLE, "canceled");
		flush(l);
	}
	return 0;
}

static int on_tick(void *data)
{
	flush(data);
	return is_stopped(data);
}

static void send_end(struct lane *l, const struct download_exchange *x, const struct error *err)
{
	struct data_http_end *e = &l->packet.end;
	flush(l);
	l->packet.verb = DATA_HTTP_END;
	*e = (struct data_http_end){.status = x->status,
		.complete = err == NULL,
		.retry = x->retry,
		.failure = x->failure,
		.retry_after_ms = x->retry_after_ms};
	if (err)
		e->error = *err;
	memcpy(e->reason, x->reason, sizeof(e->reason));
	memcpy(e->final_url, x->final_url, sizeof(e->final_url));
	send_packet(l, sizeof(*e));
}

static void exchange(struct lane *l, const char *text, size_t size)
{
	cleanup_arena struct arena arena = {0};
	struct error err = l->helper->error;
	struct request r = {0};
	struct download_exchange x = {.options = &r.options,
		.deadline = INT64_MAX, // it is whose downloads these are who gives up
		.head = on_head,
		.body = on_body,
		.tick = on_tick,
		.data = l,
		.failure = DATA_FAILED,
		.retry_after_ms = -1};
	int status = -1;
	if (err.kind == ERROR_NONE && read_request(&arena, text, size, &r, &err) == 0) {
		x.headers = r.headers.items;
		x.failure = DATA_OK;
		status = download_pool_exchange(&l->helper->pool, &x, &err);
	}
	send_end(l, &x, status < 0 ? &err : NULL);
}

static void *work(void *data)
{
	struct lane *l = data;
	struct error ignored;
	cleanup_free char *text = xmalloc(DATA_HTTP_REQUEST_MAX);
	for (ssize_t n; (n = message_receive(l->socket, text, DATA_HTTP_REQUEST_MAX, NULL, 0, false,
				 &ignored)) > 0;)
		if (n > 1) // else what was to end has ended
			exchange(l, text, (size_t)n);
	return NULL;
}

// Libraries are loaded before the confinement.
static int begin(struct helper *h, struct error *err)
{
	h->pool = DOWNLOAD_POOL_INIT;
	return download_pool_prepare(&h->pool, err) < 0 ? -1 : fetcher_confine(err);
}

int data_http_main(void)
{
	static struct helper h;
	static struct lane lanes[DATA_HTTP_LANES];
	size_t count = 0;
	signal(SIGPIPE, SIG_IGN); // older TLS code of libcurl writes without MSG_NOSIGNAL
	while (count < DATA_HTTP_LANES && fcntl(DATA_HTTP_LANE_FIRST + (int)count, F_GETFD) >= 0)
		count++;
	if (!count) {
		fprintf(stderr, "stoker data: this is a helper process of stoker; it is not "
				"started by hand\n");
		return 1;
	}
	begin(&h, &h.error); // what is wrong is told to who asks
	for (size_t i = 0; i < count; i++) {
		lanes[i].helper = &h;
		lanes[i].socket = DATA_HTTP_LANE_FIRST + (int)i;
		if (pthread_create(&lanes[i].thread, NULL, work, &lanes[i]) != 0)
			_exit(1);
	}
	for (size_t i = 0; i < count; i++)
		pthread_join(lanes[i].thread, NULL);
	return 0;
}
