// SPDX-License-Identifier: Apache-2.0
//
// A run's events as server-sent events (the HTML standard, 9.2): what has been and what comes,
// until its end.
#include "base/text.h"
#include "base/time.h"
#include "controller/api/api.h"

#include <stdio.h>

enum { WAIT_MS = 1000, KEEP_ALIVE_MS = 15 * 1000, AT_ONCE = 100 };

struct following {
	struct controller *controller;
	char run[192], topic[200];
	int64_t last;	 // number of the last event that was sent
	int64_t told_ms; // when something was sent
	struct buffer waiting;
	bool over;
};

struct looking {
	struct following *following;
	struct arena arena;
	struct database_rows rows;
};

static int look(struct database_tx *tx, void *data, struct error *err)
{
	struct looking *l = data;
	return database_run(tx, &l->arena,
		       "SELECT number, kind, data FROM event WHERE run = ?1 AND number > ?2 "
		       "ORDER BY number LIMIT ?3",
		       database_values(database_text(l->following->run),
			       database_integer(l->following->last), database_integer(AT_ONCE)),
		       &l->rows, err) < 0
		       ? -1
		       : 0;
}

static int take(struct following *f)
{
	struct looking l = {.following = f};
	struct error err;
	int rc = database_read(f->controller->db, look, &l, &err);
	for (size_t i = 0; rc == 0 && i < l.rows.count; i++) {
		const char *kind = database_get_text(&l.rows, i, 1);
		f->last = database_get_integer(&l.rows, i, 0, 0);
		buffer_printf(&f->waiting, "id: %lld\nevent: %s\ndata: %s\n\n", (long long)f->last,
			kind, database_get_text(&l.rows, i, 2));
		f->over |= streq(kind, "end");
	}
	arena_release(&l.arena);
	return rc;
}

static int64_t give(struct following *f, char *buffer, size_t size)
{
	size_t n = f->waiting.size < size ? f->waiting.size : size;
	memcpy(buffer, f->waiting.data, n);
	buffer_consume(&f->waiting, n);
	f->told_ms = now_ms();
	return (int64_t)n;
}

static int64_t next(void *data, char *buffer, size_t size)
{
	struct following *f = data;
	struct hub *hub = f->controller->hub;
	uint64_t seen = hub_count(hub, f->topic);
	if (!f->waiting.size && !f->over && take(f) < 0)
		return -2;
	if (!f->waiting.size && now_ms() - f->told_ms > KEEP_ALIVE_MS)
		buffer_puts(&f->waiting, ":\n\n");
	if (f->waiting.size)
		return give(f, buffer, size);
	if (f->over)
		return -1;
	if (hub_is_stopped(hub))
		return -2;
	hub_wait(hub, f->topic, seen, WAIT_MS);
	return 0;
}

static void done(void *data)
{
	struct following *f = data;
	buffer_release(&f->waiting);
	free(f);
}

static int ask(struct database_tx *tx, void *data, struct error *err)
{
	struct request *r = data;
	return access_run(tx, &r->arena, &r->who, request_parameter(r, "run"), ACCESS_READ, err);
}

static int events(struct request *r, struct error *err)
{
	const char *last = request_header(r, "Last-Event-ID");
	uint64_t number = 0;
	if (last && (!parse_u64(last, &number) || number > INT64_MAX))
		return error_set(err, ERROR_INVALID, "Last-Event-ID: must be a number");
	if (database_read(r->controller->db, ask, r, err) < 0)
		return -1;
	struct following *f = xcalloc(1, sizeof(*f));
	f->controller = r->controller;
	f->last = (int64_t)number;
	f->told_ms = now_ms();
	snprintf(f->run, sizeof(f->run), "%s", request_parameter(r, "run"));
	snprintf(f->topic, sizeof(f->topic), "run/%s", f->run);
	const struct reply_stream stream = {.status = 200,
		.media_type = "text/event-stream",
		.size = UINT64_MAX,
		.next = next,
		.done = done,
		.data = f};
	reply_header(r, "Cache-Control", "no-cache");
	return reply_stream(r, &stream, err);
}

const struct route api_events[] = {
	{.method = "GET",
		.pattern = "/v1/runs/{run}/events",
		.roles = ROLE_ADMIN | ROLE_USER | ROLE_RUN | ROLE_METRICS,
		.handle = events},
	{0},
};
