// SPDX-License-Identifier: Apache-2.0
//
// The long poll of nodes. It waits for the hub with nothing open and looks again when it is woken.
#include "controller/state/poll.h"
#include "base/time.h"
#include "controller/api/api.h"

#include <stdio.h>

struct polling {
	struct request *request;
	struct poll poll;
	struct json_writer *writer;
	bool taken, report, idle;
};

static int turn(struct database_tx *tx, void *data, struct error *err)
{
	struct polling *p = data;
	struct request *r = p->request;
	int64_t now = wall_ms();
	api_begin(&p->writer);
	if (!p->taken && poll_take(tx, &r->arena, r->controller, r->who.node, &p->poll, p->report,
				 now, err) < 0)
		return -1;
	return p->report ? 0
			 : poll_answer(tx, &r->arena, r->controller, r->who.node, &p->poll, now,
				   p->writer, &p->idle, err);
}

// The rest of a poll may take long; it waits in pieces, so that a node that has gone away does not
// hold its thread.
static int wait_and_answer(struct polling *p, struct error *err)
{
	enum { PIECE_MS = 5000 };
	struct request *r = p->request;
	struct hub *hub = r->controller->hub;
	char topic[80];
	// The lease is renewed by the next poll: a third of it is the longest between two.
	int64_t wait_ms = (int64_t)p->poll.wait_ms, most = r->controller->limits.lease_ms / 3;
	int64_t until = now_ms() + (wait_ms < most ? wait_ms : most);
	snprintf(topic, sizeof(topic), "node/%s", r->who.node);
	for (;;) {
		uint64_t seen = hub_count(hub, topic);
		if (database_write(r->controller->db, turn, p, err) < 0)
			return -1;
		p->taken = true;
		bool woken = false;
		for (int64_t left; p->idle && !woken && (left = until - now_ms()) > 0;) {
			woken = hub_wait(hub, topic, seen, left < PIECE_MS ? left : PIECE_MS);
			if (hub_is_stopped(hub) || !request_is_alive(r))
				return 0;
		}
		if (!woken)
			return 0;
	}
}

static int poll_node(struct request *r, struct error *err)
{
	struct polling p = {.request = r};
	const struct json *document;
	if (request_json(r, &document, err) < 0 ||
		poll_decode(&r->arena, document, false, &p.poll, err) < 0)
		return -1;
	int rc = wait_and_answer(&p, err);
	return api_reply(r, 200, p.writer, rc, err);
}

static int report(struct request *r, struct error *err)
{
	struct polling p = {.request = r, .report = true};
	const struct json *document;
	int rc = -1;
	if (request_json(r, &document, err) == 0 &&
		poll_decode(&r->arena, document, true, &p.poll, err) == 0)
		rc = database_write(r->controller->db, turn, &p, err);
	json_writer_free(p.writer);
	return rc < 0 ? -1 : reply_empty(r, 204, err);
}

const struct route api_poll[] = {
	{.method = "POST",
		.pattern = "/v1/node/poll",
		.roles = ROLE_NODE,
		.body_max = 1024 * 1024,
		.handle = poll_node},
	{.method = "POST",
		.pattern = "/v1/node/report",
		.roles = ROLE_NODE,
		.body_max = 1024 * 1024,
		.handle = report},
	{0},
};
