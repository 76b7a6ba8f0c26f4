// SPDX-License-Identifier: Apache-2.0
//
// What the agent answers on its socket.
#include "agent/link/counters.h"
#include "agent/link/server.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>

static const char *const states[] = {"accepted", "preparing", "running", "finalizing", "ended"};
enum { STATES = array_size(states) };

// What was said of it last; NULL: nothing yet. With the lock held.
static const struct json *report_of(const struct attempt *t, struct arena *a)
{
	struct error ignored;
	return t->report ? json_parse(a, t->report, strlen(t->report), "report", NULL, &ignored)
			 : NULL;
}

// The report says the state; a number of each of them is wanted.
static void count_states(struct link *l, unsigned counts[STATES], uint64_t *waiting)
{
	*waiting = 0;
	pthread_mutex_lock(&l->lock);
	for (const struct attempt *t = l->attempts; t; t = t->next) {
		cleanup_arena struct arena a = {0};
		const char *state = json_get_string(report_of(t, &a), "state");
		for (size_t i = 0; state && i < STATES; i++)
			counts[i] += streq(state, states[i]);
		*waiting += t->log_waiting;
	}
	pthread_mutex_unlock(&l->lock);
}

// ---- for stoker node status

static void write_runs(struct json_writer *w, struct link *l)
{
	json_write_key(w, "attempts");
	json_write_open_array(w);
	pthread_mutex_lock(&l->lock);
	for (const struct attempt *t = l->attempts; t; t = t->next) {
		cleanup_arena struct arena a = {0};
		const struct json *report = report_of(t, &a);
		if (report)
			json_write_tree(w, report);
	}
	pthread_mutex_unlock(&l->lock);
	json_write_close_array(w);
}

void local_status(struct server *s, struct buffer *out)
{
	cleanup_arena struct arena a = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	const struct credential *c = &s->link->credential;
	struct capacity capacity;
	struct error ignored;
	capacity_read(s->link, &a, &capacity);
	json_write_open_object(w);
	json_write_member_bool(w, "agent", true);
	json_write_member(w, "name", c->name);
	json_write_member(w, "node", c->node);
	json_write_member(w, "controller", c->url);
	json_write_member(w, "version", s->link->version);
	json_write_member_bool(w, "draining", s->draining);
	json_write_member_bool(w, "drain", s->drain);
	json_write_member_bool(w, "in_touch", s->up);
	json_write_member_int(
		w, "in_touch_changed", s->changed_ms ? wall_ms() - now_ms() + s->changed_ms : 0);
	json_write_key(w, "resources");
	capacity_write(w, s->link, &capacity);
	write_runs(w, s->link);
	json_write_close_object(w);
	json_writer_finish(w, out, &ignored);
}

// ---- for Prometheus

static void number(
	struct buffer *out, const char *type, const char *name, const char *help, double v)
{
	buffer_printf(out, "# HELP stoker_agent_%s %s\n# TYPE stoker_agent_%s %s\n", name, help,
		name, type);
	buffer_printf(out, "stoker_agent_%s %.15g\n", name, v);
}

static void write_attempts(struct buffer *out, const unsigned counts[STATES])
{
	buffer_puts(out, "# HELP stoker_agent_attempts Attempts that the node holds.\n"
			 "# TYPE stoker_agent_attempts gauge\n");
	for (size_t i = 0; i < STATES; i++)
		buffer_printf(
			out, "stoker_agent_attempts{state=\"%s\"} %u\n", states[i], counts[i]);
}

static void write_link(struct server *s, struct buffer *out)
{
	const struct link_counters *n = &link_counters;
	double seconds = s->changed_ms ? (double)(now_ms() - s->changed_ms) / 1000 : 0;
	number(out, "gauge", "link_up", "1: the controller answers.", s->up);
	number(out, "gauge", "link_seconds", "Since link_up changed.", seconds);
	number(out, "counter", "polls_total", "Polls of the controller.", (double)n->polls);
	number(out, "counter", "poll_failures_total", "Polls that were not answered.",
		(double)n->poll_failures);
	number(out, "counter", "starts_accepted_total", "Attempts taken.", (double)n->accepted);
	number(out, "counter", "starts_returned_total", "Attempts given back: no room.",
		(double)n->returned);
	number(out, "gauge", "draining", "1: no new runs are taken.", s->draining || s->drain);
	number(out, "gauge", "uptime_seconds", "Since the agent began.",
		(double)(now_ms() - s->started_ms) / 1000);
}

static void write_transfers(struct buffer *out, uint64_t waiting)
{
	const struct link_counters *n = &link_counters;
	number(out, "gauge", "log_bytes_waiting", "Bytes of logs that are to be sent.",
		(double)waiting);
	number(out, "counter", "log_bytes_sent_total", "Bytes of logs that were sent.",
		(double)n->log_bytes);
	number(out, "counter", "uploads_total", "Rounds over results of runs.", (double)n->uploads);
	number(out, "counter", "upload_failures_total", "Rounds that have to be done again.",
		(double)n->upload_failures);
	number(out, "counter", "upload_bytes_total", "Bytes of results that were sent.",
		(double)n->upload_bytes);
}

static void write_capacity(struct server *s, struct buffer *out)
{
	cleanup_arena struct arena a = {0};
	struct capacity c;
	capacity_read(s->link, &a, &c);
	number(out, "gauge", "cpus", "CPUs for jobs.", c.cpus);
	number(out, "gauge", "cpus_used", "CPUs that attempts have asked for.", c.used.cpus);
	number(out, "gauge", "memory_bytes", "Memory for jobs.", (double)c.memory);
	number(out, "gauge", "memory_used_bytes", "Memory that attempts have asked for.",
		(double)c.used.memory);
	number(out, "gauge", "gpus", "GPUs that jobs can get.", (double)c.gpus_ready);
	number(out, "gauge", "gpus_used", "GPUs that attempts have asked for.",
		(double)c.used.gpus);
	number(out, "gauge", "disk_bytes", "Size of the state directory's disk.", (double)c.disk);
	number(out, "gauge", "disk_free_bytes", "What is free of it.", (double)c.disk_free);
}

void local_metrics(struct server *s, struct buffer *out)
{
	unsigned counts[STATES] = {0};
	uint64_t waiting;
	count_states(s->link, counts, &waiting);
	write_attempts(out, counts);
	write_link(s, out);
	write_transfers(out, waiting);
	write_capacity(s, out);
}
