// SPDX-License-Identifier: Apache-2.0
//
// What the node says in a poll. What does not change often is said until an answer has shown that
// it was heard, and again when it has changed.
#include "agent/environment/records.h"
#include "agent/link/counters.h"
#include "agent/link/server.h"
#include "agent/service/service.h"
#include "base/log.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>

struct link_counters link_counters;

enum { LOOK_MS = 10 * 1000, NAMES_MAX = 4000, GOODBYE_MS = 3000 };

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

static bool is_new(const char *now, const char *known)
{
	return now && (!known || !streq(now, known));
}

static void write_if_new(
	struct json_writer *w, const char *key, const char *now, const char *known, struct arena *a)
{
	if (is_new(now, known))
		write_text(w, key, now, a);
}

// What is new is answered at once, so that it counts as said; so is the first poll, which tells
// whether the controller is there.
static int64_t wait_of(const struct server *s)
{
	const struct said *now = &s->now, *known = &s->known;
	bool news = is_new(now->resources, known->resources) ||
		    is_new(now->images, known->images) ||
		    is_new(now->environments, known->environments) || s->refusals;
	return news || !s->up || s->leaving ? 0 : s->wait_ms;
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
	json_write_member_int(w, "wait_ms", wait_of(s));
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

// ---- both

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
		poll_heed(s, answer);
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
