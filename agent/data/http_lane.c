// SPDX-License-Identifier: Apache-2.0
#include "agent/data/http_lane.h"

#include "agent/data/http_protocol.h"
#include "base/json_write.h"
#include "base/message.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>

enum { TICK_MS = 100, STOP_MS = 5000 };

struct flow {
	struct data_lane *lane;
	struct download_exchange *exchange;
	int64_t told;
	bool begun;
	struct data_http_packet packet;
};

static int fail(struct download_exchange *x, enum data_failure failure)
{
	x->failure = failure;
	x->retry = false;
	return -1;
}

static int break_lane(struct flow *f, const char *why, struct error *err)
{
	f->lane->broken = true;
	error_set(err, ERROR_SYSTEM, "the data helper %s", why);
	return fail(f->exchange, DATA_FAILED);
}

static int send_request(struct flow *f, struct error *err)
{
	const struct download_exchange *x = f->exchange;
	const struct download_options *o = x->options;
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	cleanup_buffer struct buffer text = {0};
	json_write_open_object(w);
	json_write_member(w, "url", o->url);
	json_write_member_unsigned(w, "stall_ms", o->stall_ms);
	json_write_member_strings(w, "local_hosts", &o->local_hosts);
	json_write_member_strings(w, "first_headers", &o->headers);
	json_write_key(w, "headers");
	json_write_open_array(w);
	for (const char *const *h = x->headers; h && *h; h++)
		json_write_string(w, *h);
	json_write_close_array(w);
	json_write_close_object(w);
	if (json_writer_finish(w, &text, err) < 0)
		return fail(f->exchange, DATA_FAILED);
	if (text.size > DATA_HTTP_REQUEST_MAX) {
		error_set(err, ERROR_LIMIT, "its address and headers are over the limit of 60 KiB");
		return fail(f->exchange, DATA_FAILED);
	}
	if (message_send(f->lane->socket, text.data, text.size, NULL, 0, err) < 0)
		return break_lane(f, "has ended unexpectedly", err);
	return 0;
}

static bool is_well_formed(const struct flow *f, size_t n)
{
	const struct data_http_packet *p = &f->packet;
	if (n < offsetof(struct data_http_packet, piece))
		return false;
	size_t rest = n - offsetof(struct data_http_packet, piece);
	switch (p->verb) {
	case DATA_HTTP_HEAD:
		return !f->begun && rest == sizeof(p->head);
	case DATA_HTTP_BODY:
		return f->begun && p->size > 0 && rest == p->size;
	case DATA_HTTP_END:
		return rest == sizeof(p->end) && p->end.failure < DATA_FAILURES;
	}
	return false;
}

// 1: there is a packet; 0: the lane is silent for now.
static int receive(struct flow *f, int wait_ms, struct error *err)
{
	struct data_http_packet *p = &f->packet;
	ssize_t n = message_receive(f->lane->socket, p, sizeof(*p), NULL, 0, true, err);
	if (n == -2) {
		struct pollfd ready = {.fd = f->lane->socket, .events = POLLIN};
		poll(&ready, 1, wait_ms); // whatever it says, the next call tells
		return 0;
	}
	if (n == 0)
		return break_lane(f, "has ended unexpectedly", err);
	if (n < 0 || !is_well_formed(f, (size_t)n))
		return break_lane(f, "sent something unreadable", err);
	f->begun = f->begun || p->verb == DATA_HTTP_HEAD;
	return 1;
}

// The error is set: have the helper end what it does.
static void stop(struct flow *f)
{
	struct error ignored;
	int64_t until = now_ms() + STOP_MS;
	if (message_send(f->lane->socket, "s", 1, NULL, 0, &ignored) < 0)
		f->lane->broken = true;
	while (!f->lane->broken) {
		if (receive(f, TICK_MS, &ignored) > 0 && f->packet.verb == DATA_HTTP_END)
			return;
		f->lane->broken = f->lane->broken || now_ms() >= until;
	}
}

#define TERMINATE(text) ((text)[sizeof(text) - 1] = '\0', text_flatten(text))

// Why it ends is the caller's error; a failure that it has not named is of the network, or not.
static int give_up(struct flow *f, enum data_failure before, const struct error *err)
{
	struct download_exchange *x = f->exchange;
	enum data_failure failure = x->failure;
	stop(f);
	if (failure != before)
		return fail(x, failure);
	x->retry = err->kind == ERROR_UNAVAILABLE;
	x->failure = x->retry ? DATA_NETWORK : DATA_FAILED;
	return -1;
}

static int take_head(struct flow *f, struct error *err)
{
	struct download_exchange *x = f->exchange;
	struct download_head *h = &f->packet.head;
	TERMINATE(h->etag);
	TERMINATE(h->last_modified);
	TERMINATE(h->media_type);
	x->status = h->status;
	return x->head(x->data, h, err);
}

static int take_end(struct flow *f, struct error *err)
{
	struct download_exchange *x = f->exchange;
	struct data_http_end *e = &f->packet.end;
	TERMINATE(e->reason);
	TERMINATE(e->final_url);
	TERMINATE(e->error.text);
	x->status = e->status;
	x->retry = e->retry;
	x->retry_after_ms = e->retry_after_ms;
	memcpy(x->reason, e->reason, sizeof(x->reason));
	memcpy(x->final_url, e->final_url, sizeof(x->final_url));
	if (e->complete)
		return 0;
	bool known = e->error.kind > ERROR_NONE && e->error.kind <= ERROR_SYSTEM;
	x->failure = (enum data_failure)e->failure;
	return error_set(err, known ? e->error.kind : ERROR_SYSTEM, "%s", e->error.text);
}

static int look_up(struct flow *f, struct error *err)
{
	struct download_exchange *x = f->exchange;
	int64_t now = now_ms();
	if (now >= x->deadline) {
		error_set(err, ERROR_LIMIT, "not complete within %llu s",
			(unsigned long long)(x->options->limit_ms / 1000));
		return fail(x, DATA_TIMEOUT);
	}
	if (now - f->told < TICK_MS)
		return 0;
	f->told = now;
	if (x->tick(x->data) == 0)
		return 0;
	error_set(err, ERROR_UNAVAILABLE, "canceled");
	return fail(x, DATA_FAILED);
}

int data_lane_exchange(void *lane, struct download_exchange *x, struct error *err)
{
	struct flow f = {.lane = lane, .exchange = x};
	enum data_failure before = x->failure;
	if (f.lane->broken)
		return break_lane(&f, "does not answer", err);
	if (send_request(&f, err) < 0)
		return -1;
	for (;;) {
		if (look_up(&f, err) < 0) {
			stop(&f);
			return -1;
		}
		int64_t left = x->deadline - now_ms();
		int got = receive(&f, left < TICK_MS ? (int)left : TICK_MS, err);
		if (got < 0)
			return -1;
		if (got == 0)
			continue;
		if (f.packet.verb == DATA_HTTP_END)
			return take_end(&f, err);
		int status = f.packet.verb == DATA_HTTP_HEAD
				     ? take_head(&f, err)
				     : x->body(x->data, f.packet.piece, f.packet.size, err);
		if (status < 0)
			return give_up(&f, before, err);
	}
}
