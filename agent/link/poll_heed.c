// SPDX-License-Identifier: Apache-2.0
//
// What the node makes of a poll's answer.
#include "agent/link/counters.h"
#include "agent/link/server.h"
#include "base/log.h"
#include "base/text.h"

enum { REFUSALS_MAX = 1000 };

static struct attempt *find(struct link *l, const struct json *name)
{
	const char *run = json_get_string(name, "run");
	int64_t number = json_get_integer(name, "attempt", 0);
	for (struct attempt *a = l->attempts; a && run; a = a->next)
		if (a->number == number && streq(a->run, run))
			return a;
	return NULL;
}

enum told { TOLD_CANCEL, TOLD_STALE, TOLD_KNOWN };

static void tell(struct link *l, const struct json *list, enum told what)
{
	if (!list || list->type != JSON_ARRAY)
		return;
	json_array_each (item, list) {
		struct attempt *a = find(l, &item->value);
		if (!a)
			continue;
		pthread_mutex_lock(&l->lock);
		bool before = a->cancel && what == TOLD_CANCEL;
		a->cancel |= what == TOLD_CANCEL;
		a->stale |= what == TOLD_STALE;
		a->known |= what == TOLD_KNOWN && a->ended &&
			    json_get_integer(&item->value, "sequence", -1) >= a->sequence;
		pthread_mutex_unlock(&l->lock);
		if (!before)
			attempt_wake(a);
	}
}

static void refuse(struct server *s, const struct json *start, const char *reason)
{
	const char *run = json_get_string(start, "run");
	unsigned count = 0;
	for (const struct refusal *r = s->refusals; r; r = r->next)
		count++;
	if (!run || count >= REFUSALS_MAX) // said again by the controller
		return;
	struct refusal *r = xcalloc(1, sizeof(*r));
	*r = (struct refusal){.next = s->refusals,
		.run = xstrdup(run),
		.reason = xstrdup(reason),
		.attempt = json_get_integer(start, "attempt", 0)};
	s->refusals = r;
	link_counters.returned++;
	log_warning("%s goes back to the controller: %s", run, reason);
}

static void take_start(struct server *s, const struct json *start)
{
	cleanup_arena struct arena a = {0};
	struct capacity c;
	struct error err;
	const char *reason = "the node is draining";
	if (find(s->link, start)) // accepted already
		return;
	capacity_read(s->link, &a, &c);
	const struct share more = share_of(start);
	if (s->draining || s->drain || !capacity_fits(&c, &more, &a, &reason)) {
		refuse(s, start, reason);
		return;
	}
	link_counters.accepted++;
	if (attempt_accept(s->link, start, &err) < 0) {
		log_error("a start was not accepted: %s", err.text);
		s->refused = true;
	}
}

// Polls renew the leases of what they name: one that is lost on the way must not cost them.
static void keep_lease(struct server *s, const struct json *answer)
{
	int64_t third = json_get_integer(answer, "lease_ms", 0) / 3;
	if (third > 0 && third < s->wait_ms)
		s->wait_ms = third;
}

void poll_heed(struct server *s, const struct json *answer)
{
	const struct json *starts = json_get(answer, "starts");
	keep_lease(s, answer);
	tell(s->link, json_get(answer, "cancels"), TOLD_CANCEL);
	tell(s->link, json_get(answer, "stale"), TOLD_STALE);
	tell(s->link, json_get(answer, "known"), TOLD_KNOWN);
	s->drain = json_get_bool(answer, "drain", false);
	if (starts && starts->type == JSON_ARRAY && !s->leaving)
		json_array_each (item, starts)
			take_start(s, &item->value);
}
