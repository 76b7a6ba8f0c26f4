// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a run before its script prints: its events (docs/protocol.md), as one line that
// is drawn over on a terminal, else a line for each phase and each tenth of its progress.
#include "agent/command/phase_line.h"
#include "agent/command/remote.h"

#include "base/text.h"
#include "base/time.h"

#include <stdio.h>

enum { LINE_BYTES_MAX = 1024 * 1024, AGAIN_MS = 500, AGAIN_MS_MAX = 10 * 1000 };

struct wait {
	const char *run;
	struct buffer text; // of the event stream, what is no whole line yet
	char kind[16], last[24];
	char phase[64];
	int64_t tenth;
	bool terminal, drawn, over;
};

const char *remote_progress(const struct json *progress, char text[REMOTE_PROGRESS_SIZE])
{
	char size[FORMAT_SIZE_MAX], rate[FORMAT_SIZE_MAX];
	int64_t done = json_get_integer(progress, "done", 0);
	int64_t total = json_get_integer(progress, "total", 0);
	int64_t speed = json_get_integer(progress, "rate", 0);
	*text = '\0';
	if (done <= 0)
		return text;
	int n = total >= done ? snprintf(text, REMOTE_PROGRESS_SIZE, "%lld %% of %s",
					(long long)((double)done * 100 / (double)total),
					format_size((uint64_t)total, size))
			      : snprintf(text, REMOTE_PROGRESS_SIZE, "%s",
					format_size((uint64_t)done, size));
	if (speed > 0)
		snprintf(text + n, REMOTE_PROGRESS_SIZE - (size_t)n, ", %s/s",
			format_size((uint64_t)speed, rate));
	return text;
}

// ---- showing it

static void clear(struct wait *w)
{
	if (w->drawn)
		fputs("\r\x1b[K", stderr);
	w->drawn = false;
}

static void show(struct wait *w, const char *what, const struct json *progress)
{
	char text[REMOTE_PROGRESS_SIZE];
	int64_t total = json_get_integer(progress, "total", 0);
	int64_t tenth = total > 0 ? json_get_integer(progress, "done", 0) / (total / 10 + 1) : 0;
	bool same = streq(what, w->phase) && tenth == w->tenth;
	snprintf(w->phase, sizeof(w->phase), "%s", what);
	w->tenth = tenth;
	remote_progress(progress, text);
	char line[200];
	snprintf(line, sizeof(line), "%s: %s%s%s", w->run, what, *text ? " " : "", text);
	text_flatten(line);
	if (w->terminal)
		fprintf(stderr, "\r\x1b[K%.*s", 79, line);
	else if (!same)
		fprintf(stderr, "%s\n", line);
	w->drawn = w->terminal;
}

// "state" brings the run, "phase" only its phase and progress.
static void on_event(struct wait *w, const char *data)
{
	cleanup_arena struct arena a = {0};
	struct error ignored;
	const struct json *event = json_parse(&a, data, strlen(data), "event", NULL, &ignored);
	const char *state = event ? json_get_string(event, "state") : NULL;
	const char *phase = event ? json_get_string(event, "phase") : NULL;
	if (streq(w->kind, "end")) {
		w->over = true;
	} else if (streq(w->kind, "state") && state) {
		w->over |= !streq(state, "NotStarted") && !streq(state, "Starting") &&
			   !streq(state, "Preparing") && !streq(state, "NotResponding");
		if (!w->over)
			show(w,
				phase			     ? phase
				: streq(state, "NotStarted") ? "queued"
							     : state,
				json_get(event, "progress"));
	} else if (streq(w->kind, "phase") && phase) {
		show(w, phase, json_get(event, "progress"));
	}
}

// ---- the stream

static void on_line(struct wait *w, const char *line)
{
	if (starts_with(line, "id: "))
		snprintf(w->last, sizeof(w->last), "%s", line + 4);
	else if (starts_with(line, "event: "))
		snprintf(w->kind, sizeof(w->kind), "%s", line + 7);
	else if (starts_with(line, "data: "))
		on_event(w, line + 6);
}

static int on_bytes(void *data, const char *bytes, size_t size, struct error *err)
{
	struct wait *w = data;
	buffer_append(&w->text, bytes, size);
	for (char *end; (end = memchr(w->text.data, '\n', w->text.size));) {
		*end = '\0';
		on_line(w, w->text.data);
		buffer_consume(&w->text, (size_t)(end - w->text.data) + 1);
		if (w->over)
			return error_set(err, ERROR_NONE, "enough");
		if (!w->text.size)
			break;
	}
	return w->text.size > LINE_BYTES_MAX
		       ? error_set(err, ERROR_LIMIT, "an event is over %d bytes", LINE_BYTES_MAX)
		       : 0;
}

static int listen_once(struct service *s, struct wait *w, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const char *headers[] = {
		arena_printf(&a, "Last-Event-ID: %s", *w->last ? w->last : "0"), NULL};
	const struct service_request q = {.method = "GET",
		.path = arena_printf(&a, "/v1/runs/%s/events", service_escape(&a, w->run, false)),
		.fd = -1,
		.headers = headers,
		.sink = on_bytes,
		.data = w};
	buffer_clear(&w->text);
	return service_do(s, &q, &a, NULL, err);
}

int remote_wait(struct service *s, const char *run_id, struct error *err)
{
	struct wait w = {.run = run_id, .terminal = phase_line_is_live()};
	int rc = 0;
	for (int64_t wait = AGAIN_MS; !w.over;
		wait = wait * 2 < AGAIN_MS_MAX ? wait * 2 : AGAIN_MS_MAX) {
		rc = listen_once(s, &w, err);
		if (w.over ||
			(rc < 0 && err->kind != ERROR_UNAVAILABLE && err->kind != ERROR_INTEGRITY))
			break;
		sleep_ms(wait);
	}
	clear(&w);
	buffer_release(&w.text);
	if (!w.over)
		return rc;
	error_clear(err);
	return 0;
}
