// SPDX-License-Identifier: Apache-2.0
//
// What the node says in a poll, and what it makes of the answer. What does not change often is said
// once to each controller's answer, and again when it has changed.
#include "agent/environment/records.h"
#include "agent/link/counters.h"
#include "agent/link/server.h"
#include "agent/service/service.h"
#include "base/log.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>

struct link_counters link_counters;

enum { LOOK_MS = 10 * 1000, NAMES_MAX = 4000, REFUSALS_MAX = 1000, GOODBYE_MS = 3000 };

// ---- what the node has

static char *finish(struct json_writer *w)
{
	cleanup_buffer struct buffer b = {0};
	struct error ignored;
	return json_writer_finish(w, &b, &ignored) == 0 ? buffer_steal(&b) : NULL;
}

static char *resources_text(struct link *l, const struct capacity *c)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	capacity_write(w, l, c);
	return finish(w);
}

static char *images_text(struct store *s, struct arena *a)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	struct store_image *images = NULL;
	size_t count = 0;
	struct error ignored;
	char text[OCI_REFERENCE_TEXT_MAX];
	json_write_open_array(w);
	if (store_image_list(s, a, &images, &count, &ignored) == 0)
		for (size_t i = 0; i < count && i < NAMES_MAX; i++)
			json_write_string(w, oci_reference_format(&images[i].reference, text));
	json_write_close_array(w);
	return finish(w);
}

static char *environments_text(struct store *s, struct arena *a)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	struct environment_record *records = NULL;
	size_t count = 0;
	struct error ignored;
	json_write_open_array(w);
	if (environment_record_list(s, a, &records, &count, &ignored) == 0)
		for (size_t i = 0; i < count && i < NAMES_MAX; i++)
			json_write_string(w, records[i].key);
	json_write_close_array(w);
	return finish(w);
}

static unsigned count_held(struct link *l)
{
	unsigned n = 0;
	pthread_mutex_lock(&l->lock);
	for (const struct attempt *t = l->attempts; t; t = t->next)
		n += !t->ended && !t->done;
	pthread_mutex_unlock(&l->lock);
	return n;
}

static void said_release(struct said *s)
{
	free(s->resources);
	free(s->images);
	free(s->environments);
	*s = (struct said){0};
}

// Not for each report of progress.
static void look(struct server *s)
{
	cleanup_arena struct arena a = {0};
	struct capacity c;
	unsigned held = count_held(s->link);
	if (s->now.resources && held == s->held && now_ms() - s->looked_ms < LOOK_MS)
		return;
	said_release(&s->now);
	capacity_read(s->link, &a, &c);
	s->now = (struct said){resources_text(s->link, &c), images_text(s->link->store, &a),
		environments_text(s->link->store, &a)};
	s->looked_ms = now_ms();
	s->held = held;
}

// ---- saying it

static void write_text(struct json_writer *w, const char *key, const char *text, struct arena *a)
{
	static const struct json_limits limits = {
		.bytes = 4 * 1024 * 1024, .depth = 16, .nodes = 100000};
	struct error ignored;
	const struct json *tree =
		text ? json_parse(a, text, strlen(text), key, &limits, &ignored) : NULL;
	if (key && tree)
		json_write_key(w, key);
	if (tree)
		json_write_tree(w, tree);
}

static void write_if_new(
	struct json_writer *w, const char *key, const char *now, const char *known, struct arena *a)
{
	if (now && (!known || !streq(now, known)))
		write_text(w, key, now, a);
}

static void write_attempts(struct json_writer *w, struct link *l, struct arena *a)
{
	json_write_key(w, "attempts");
	json_write_open_array(w);
	pthread_mutex_lock(&l->lock);
	for (struct attempt *t = l->attempts; t; t = t->next)
		if (!t->stale)
			write_text(w, NULL, t->report, a);
	pthread_mutex_unlock(&l->lock);
	json_write_close_array(w);
}

static void write_refusals(struct json_writer *w, const struct server *s)
{
	if (!s->refusals)
		return;
	json_write_key(w, "returns");
	json_write_open_array(w);
	for (const struct refusal *r = s->refusals; r; r = r->next) {
		json_write_open_object(w);
		json_write_member(w, "run", r->run);
		json_write_member_int(w, "attempt", r->attempt);
		json_write_member(w, "reason", r->reason);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

static void write_poll(struct json_writer *w, struct server *s, struct arena *a)
{
	json_write_open_object(w);
	json_write_member(w, "boot", s->boot);
	json_write_member(w, "instance", s->instance);
	// The first is answered at once: what is held may be near the end of its lease.
	json_write_member_int(w, "wait_ms", s->leaving || !s->answered ? 0 : s->wait_ms);
	json_write_member(w, "version", s->link->version);
	json_write_member_bool(w, "draining", s->draining);
	json_write_member_bool(w, "drain", s->drain);
	if (s->leaving)
		json_write_member_bool(w, "leaving", true);
	write_if_new(w, "resources", s->now.resources, s->known.resources, a);
	write_if_new(w, "images", s->now.images, s->known.images, a);
	write_if_new(w, "environments", s->now.environments, s->known.environments, a);
	write_refusals(w, s);
	write_attempts(w, s->link, a);
	json_write_close_object(w);
}

static void keep(char **known, const char *now)
{
	free(*known);
	*known = now ? xstrdup(now) : NULL;
}

static void was_heard(struct server *s)
{
	keep(&s->known.resources, s->now.resources);
	keep(&s->known.images, s->now.images);
	keep(&s->known.environments, s->now.environments);
	while (s->refusals) {
		struct refusal *r = s->refusals;
		s->refusals = r->next;
		free(r->run);
		free(r->reason);
		free(r);
	}
}

// ---- what the controller says

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

static void heed(struct server *s, const struct json *answer)
{
	const struct json *starts = json_get(answer, "starts"), *drain = json_get(answer, "drain");
	s->answered = true;
	keep_lease(s, answer);
	tell(s->link, json_get(answer, "cancels"), TOLD_CANCEL);
	tell(s->link, json_get(answer, "stale"), TOLD_STALE);
	tell(s->link, json_get(answer, "known"), TOLD_KNOWN);
	s->drain = drain && drain->type == JSON_BOOL && drain->boolean;
	if (starts && starts->type == JSON_ARRAY && !s->leaving)
		json_array_each (item, starts)
			take_start(s, &item->value);
}

int poll_once(struct server *s, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	const struct json *answer = NULL;
	attempt_reap(s->link);
	look(s);
	write_poll(w, s, &a);
	const struct service_request q = {.method = "POST",
		.path = "/v1/node/poll",
		.json = w,
		.fd = -1,
		.patience_ms = s->wait_ms};
	link_counters.polls++;
	if (service_do(s->service, &q, &a, &answer, err) == 0) {
		was_heard(s);
		heed(s, answer);
		return 0;
	}
	struct pollfd fd = {.fd = s->wake, .events = POLLIN};
	if (poll(&fd, 1, 0) > 0 && service_status(s->service) < 400)
		return 0;
	link_counters.poll_failures++;
	return -1;
}

void poll_goodbye(struct server *s)
{
	cleanup_arena struct arena a = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	const struct credential *c = &s->link->credential;
	const struct json *answer = NULL;
	struct error err;
	const struct service_settings settings = {.url = c->url,
		.token = c->token,
		.ca = c->ca,
		.cancel_fd = s->signals, // a second one does not wait
		.stall_ms = GOODBYE_MS};
	cleanup_service struct service *service = service_open(&settings, &err);
	const struct service_request q = {
		.method = "POST", .path = "/v1/node/poll", .json = w, .fd = -1};
	write_poll(w, s, &a);
	if (!service || service_do(service, &q, &a, &answer, &err) < 0)
		log_warning("the controller was not told that the agent ends: %s", err.text);
}
