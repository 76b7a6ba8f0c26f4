// SPDX-License-Identifier: Apache-2.0
//
// What a controller says of a run, for people, and its log as it comes.
#include "agent/command/remote.h"

#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <unistd.h>

enum { WAIT_MS = 200, WAIT_MS_MAX = 2000 };
static const char log_name[] = "user_logs/std_log.txt";

static void print_safe(const char *title, const char *text)
{
	cleanup_free char *copy = xstrdup(text);
	text_flatten(copy);
	printf("%-11s %s\n", title, copy);
}

static void print_time(const char *title, const struct json *run, const char *key)
{
	char text[TIME_TEXT_SIZE];
	int64_t ms = json_get_integer(run, key, 0);
	if (ms)
		printf("%-11s %s\n", title, format_time(ms, text));
}

static void print_upload(const struct json *upload)
{
	char size[FORMAT_SIZE_MAX];
	if (!upload || upload->type != JSON_OBJECT)
		return;
	printf("%-11s %s: %lld files, %s\n", "results", remote_text(upload, "state"),
		(long long)json_get_integer(upload, "files", 0),
		format_size((uint64_t)json_get_integer(upload, "bytes", 0), size));
}

static void print_phase(const struct json *run)
{
	const struct json *progress = json_get(run, "progress");
	char text[REMOTE_PROGRESS_SIZE];
	cleanup_free char *line = NULL;
	if (!json_get_string(run, "phase"))
		return;
	line = xasprintf("%s%s%s", remote_text(run, "phase"), progress ? " " : "",
		remote_progress(progress, text));
	print_safe("phase", line);
}

void remote_print_run(const struct json *run)
{
	const struct json *cause = json_get(run, "cause");
	print_safe("run", remote_text(run, "id"));
	print_safe("state", remote_text(run, "state"));
	if (json_get_string(run, "reason"))
		print_safe("waits", remote_text(run, "reason"));
	print_phase(run);
	if (json_get_string(cause, "message"))
		print_safe("cause", remote_text(cause, "message"));
	print_safe("user", remote_text(run, "user"));
	if (json_get_string(run, "node"))
		print_safe("node", remote_text(run, "node"));
	printf("%-11s %lld\n", "attempt", (long long)json_get_integer(run, "attempt", 0));
	print_time("created", run, "created");
	print_time("started", run, "started");
	print_time("ended", run, "ended");
	print_upload(json_get(run, "upload"));
}

int remote_show(const char *name, bool json, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_service struct service *s = NULL;
	const struct json *run;
	if (remote_open(&s, err) < 0 || remote_find_run(s, name, &a, &run, err) < 0)
		return -1;
	if (json)
		return remote_print_json(run, err);
	remote_print_run(run);
	return 0;
}

// ---- the log

struct output {
	uint64_t at; // bytes of the log that were printed or passed over
};

static int print_bytes(void *data, const char *bytes, size_t size, struct error *err)
{
	struct output *o = data;
	if (fwrite(bytes, 1, size, stdout) != size || fflush(stdout) == EOF)
		return error_set_errno(err, errno, "standard output");
	o->at += size;
	return 0;
}

static bool has_ended(const struct json *run)
{
	const char *state = remote_text(run, "state");
	return streq(state, "Completed") || streq(state, "Failed") || streq(state, "Canceled");
}

// One answer to the end of it: of what is there, or as it grows. A broken connection is taken up
// again where it broke.
static int read_log(struct service *s, struct arena *a, const struct json *run, bool follow,
	struct output *o, struct error *err)
{
	for (int64_t wait = WAIT_MS;; wait = wait * 2 < WAIT_MS_MAX ? wait * 2 : WAIT_MS_MAX) {
		uint64_t before = o->at;
		const struct service_request q = {
			.method = "GET",
			.path = remote_run_path(a, run,
				arena_printf(a, "/files/%s?%soffset=%llu", log_name,
					follow ? "follow=1&" : "", (unsigned long long)o->at)),
			.fd = -1,
			.patience_ms = 3600 * 1000,
			.sink = print_bytes,
			.data = o,
		};
		int rc = service_do(s, &q, a, NULL, err);
		if (rc == 0 || (err->kind != ERROR_UNAVAILABLE && err->kind != ERROR_INTEGRITY))
			return rc < 0 && err->kind == ERROR_NOT_FOUND ? 0 : rc;
		if (o->at > before)
			wait = WAIT_MS;
		sleep_ms(wait);
		error_clear(err);
	}
}

static int get_again(struct service *s, struct arena *a, const struct json **run, struct error *err)
{
	return service_call(s, "GET", remote_run_path(a, *run, ""), NULL, a, run, err);
}

// Attempt by attempt: a further one has a log of its own.
static int follow_log(struct service *s, struct arena *a, const struct json **run, struct output *o,
	struct error *err)
{
	int64_t attempt = json_get_integer(*run, "attempt", 0);
	for (;;) {
		if (read_log(s, a, *run, true, o, err) < 0 || get_again(s, a, run, err) < 0)
			return -1;
		if (has_ended(*run))
			return read_log(s, a, *run, false, o, err);
		if (attempt && json_get_integer(*run, "attempt", 0) != attempt) {
			fprintf(stderr, "%s: attempt %lld\n", remote_text(*run, "id"),
				(long long)json_get_integer(*run, "attempt", 0));
			o->at = 0;
		}
		attempt = json_get_integer(*run, "attempt", 0);
		sleep_ms(WAIT_MS);
	}
}

// Where the last `tail` lines begin, by reading the log once.
struct lines {
	uint64_t at, *starts;
	size_t count, size;
	bool begins;
};

static int note_lines(void *data, const char *bytes, size_t size, struct error *err)
{
	struct lines *l = data;
	(void)err;
	for (size_t i = 0; i < size; i++, l->at++) {
		if (l->begins)
			l->starts[l->count++ % l->size] = l->at;
		l->begins = bytes[i] == '\n';
	}
	return 0;
}

static int find_tail(struct service *s, struct arena *a, const struct json *run, int64_t tail,
	uint64_t *from, struct error *err)
{
	enum { TAIL_MAX = 100000 };
	if (tail > TAIL_MAX)
		return error_set(err, ERROR_INVALID, "--tail: at most %d lines", TAIL_MAX);
	size_t size = tail ? (size_t)tail : 1;
	struct lines l = {.starts = arena_array(a, uint64_t, size), .size = size, .begins = true};
	const struct service_request q = {.method = "GET",
		.path = remote_run_path(a, run, arena_printf(a, "/files/%s", log_name)),
		.fd = -1,
		.sink = note_lines,
		.data = &l};
	if (service_do(s, &q, a, NULL, err) < 0) {
		if (err->kind != ERROR_NOT_FOUND)
			return -1;
		error_clear(err);
	}
	*from = !tail ? l.at : l.count > size ? l.starts[l.count % size] : 0;
	return 0;
}

int remote_logs(const char *name, bool follow, int64_t tail, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_service struct service *s = NULL;
	const struct json *run;
	struct output o = {0};
	if (remote_open(&s, err) < 0 || remote_find_run(s, name, &a, &run, err) < 0 ||
		(tail >= 0 && find_tail(s, &a, run, tail, &o.at, err) < 0))
		return -1;
	return follow ? follow_log(s, &a, &run, &o, err) : read_log(s, &a, run, false, &o, err);
}

int remote_follow(struct service *s, const char *run_id, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const struct json *run;
	struct output o = {0};
	if (remote_find_run(s, run_id, &a, &run, err) < 0)
		return -1;
	if (json_get_string(run, "reason"))
		fprintf(stderr, "%s: %s\n", run_id, remote_text(run, "reason"));
	if (remote_wait(s, run_id, err) < 0 || follow_log(s, &a, &run, &o, err) < 0)
		return -1;
	const struct json *cause = json_get(run, "cause");
	bool completed = streq(remote_text(run, "state"), "Completed");
	fprintf(stderr, "%s: %s%s%s\n", run_id, remote_text(run, "state"), completed ? "" : ": ",
		completed ? "" : remote_text(cause, "message"));
	const struct json *code = json_get(cause, "exit_code");
	if (completed)
		return 0;
	return code && code->type == JSON_INTEGER && code->integer > 0 ? (int)code->integer & 0xff
								       : 1;
}
