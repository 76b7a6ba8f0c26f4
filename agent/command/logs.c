// SPDX-License-Identifier: Apache-2.0
#include "agent/command/command.h"
#include "agent/command/remote.h"
#include "agent/command/run_lookup.h"
#include "agent/supervise/log_reader.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

static const struct options_usage usage = {
	.verb = "logs",
	.arguments = "RUN",
	.summary = "Show what a run's script printed. RUN is the run's id, or a beginning of it.\n"
		   "What is not of this node is asked for at the controller (stoker login).",
	.more = "Examples:\n"
		"  stoker logs -f --tail 20 digits_17\n"
		"  stoker logs --since 2h30m --timestamps digits_1795428000_0f4a9c21\n"
		"  stoker logs --since 2026-11-23T10:00:00Z digits_17",
	.least = 1,
	.most = 1,
};

static int parse_since(const char *text, struct log_reader_options *o, struct error *err)
{
	int64_t seconds;
	o->has_since = true;
	if (parse_duration(text, &seconds)) {
		o->since_us = (wall_ms() - seconds * 1000) * 1000;
		return 0;
	}
	if (parse_time(text, &o->since_us))
		return 0;
	return error_set(err, ERROR_INVALID,
		"--since %s: must be a time (2026-11-23T10:00:00Z) or so long ago (90s, 10m, "
		"2h30m, 1d)",
		text);
}

static int parse_tail(const char *text, struct log_reader_options *o, struct error *err)
{
	uint64_t lines;
	if (!parse_u64(text, &lines) || lines > INT64_MAX)
		return error_set(err, ERROR_INVALID, "--tail %s: must be a number of lines", text);
	o->tail = (int64_t)lines;
	return 0;
}

enum { NEXT_ATTEMPT_MS = 50 };

struct followed {
	struct store *store;
	const struct run_found *run;
};

// The file that is locked as long as somebody runs it; -1 if nobody does.
static int open_lock(const struct followed *f)
{
	cleanup_free char *path = xasprintf("runs/.active/%s", f->run->id);
	return openat(f->store->state_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

// Will nothing change any more? The run is recorded as ended, or the process that ran it was
// killed.
static bool ended(void *data)
{
	const struct followed *f = data;
	cleanup_arena struct arena a = {0};
	struct run_summary summary;
	struct error ignored;
	if (run_document_read(f->run->fd, &a, &summary, &ignored) == 0 && summary.state &&
		run_state_is_end(summary.state))
		return true;
	cleanup_fd int lock = open_lock(f);
	return lock < 0 || file_lock(lock, LOCK_SH | LOCK_NB, "run", &ignored) == 0;
}

// An attempt that has ended may be followed by another: wait until there is one, or the run is
// over.
static bool next_attempt(struct store *s, struct run_found *run)
{
	cleanup_arena struct arena a = {0};
	struct run_summary summary;
	struct error ignored;
	while (run_document_read(run->fd, &a, &summary, &ignored) == 0 && summary.retried) {
		bool active = run_is_active(s, run->id);
		if (run_found_attempt(s, run, run->attempt + 1, &ignored) == 0)
			return true;
		if (!active)
			return false;
		sleep_ms(NEXT_ATTEMPT_MS);
	}
	return false;
}

static int show(struct store *s, struct run_found *run, struct log_reader_options *o, bool one,
	struct error *err)
{
	struct followed f = {s, run};
	o->data = &f;
	for (;;) {
		cleanup_fd int lock = open_lock(&f);
		o->dirfd = run->fd;
		o->ended_fd = lock;
		if (log_read(o, err) < 0)
			return error_context(err, "run %s", run->id);
		if (!o->follow || one || !next_attempt(s, run))
			return 0;
		o->tail = -1;
		fprintf(stderr, "%s: attempt %u\n", run->id, run->attempt);
	}
}

// It is not of this node: of the controller's, then.
static int show_remote(
	const char *name, const struct log_reader_options *o, uint64_t attempt, struct error *err)
{
	if (o->has_since || o->timestamps || attempt)
		return error_set(err, ERROR_INVALID,
			"%s is not of this node; of a controller's run the log is had whole, or by "
			"--tail",
			name);
	error_clear(err);
	return remote_logs(name, o->follow, o->tail, err);
}

int command_logs(struct command *c, int argc, char **argv, struct error *err)
{
	struct log_reader_options o = {.tail = -1, .output_fd = STDOUT_FILENO, .ended = ended};
	const char *since = NULL, *tail = NULL, *attempt = NULL;
	uint64_t number = 0;
	const struct option options[] = {
		{OPTION_FLAG, 'f', "follow", NULL, "go on until the run ends", &o.follow},
		{OPTION_STRING, 0, "since", "TIME",
			"only what was printed since then, or so long ago", &since},
		{OPTION_STRING, 0, "tail", "N", "only the last N lines", &tail},
		{OPTION_FLAG, 0, "timestamps", NULL, "the time before each line", &o.timestamps},
		{OPTION_STRING, 0, "attempt", "N", "not the last one, of a job with retries",
			&attempt},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (attempt && (!parse_u64(attempt, &number) || !number || number > UINT32_MAX)) {
		c->usage_error = true;
		return error_set(err, ERROR_INVALID, "--attempt %s: must be a number", attempt);
	}
	if ((since && parse_since(since, &o, err) < 0) || (tail && parse_tail(tail, &o, err) < 0)) {
		c->usage_error = true;
		return -1;
	}
	cleanup_run_found struct run_found run = {.fd = -1};
	if (command_open_runs(c, err) < 0)
		return -1;
	if (run_find(c->store, rest[0], &run, err) < 0) {
		if (err->kind != ERROR_NOT_FOUND || !remote_is_known())
			return -1;
		return show_remote(rest[0], &o, number, err);
	}
	if (number && run_found_attempt(c->store, &run, (unsigned)number, err) < 0)
		return -1;
	return show(c->store, &run, &o, number != 0, err);
}
