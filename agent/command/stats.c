// SPDX-License-Identifier: Apache-2.0
#include "agent/command/run_lookup.h"
#include "agent/supervise/client.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <unistd.h>

static const struct options_usage usage = {
	.verb = "stats",
	.arguments = "[RUN…]",
	.summary =
		"Show what runs use: processors, memory, reads and writes, processes. All that go\n"
		"on, if none is named; every second, until it is interrupted.",
	.least = 0,
	.most = -1,
};

enum { RUNS_MAX = 1000, PERIOD_MS = 1000, FIRST_MS = 200 };

struct sample {
	bool there;
	int64_t time_ms, cpu_usec, memory, memory_limit, read, written, pids; // -1: not known
};

struct watched {
	char id[NAME_MAX + 1];
	struct sample now, before;
};

struct watching {
	struct store *store;
	struct watched *runs;
	size_t count;
	bool json, stream;
};

// One that has ended meanwhile is passed over.
static void take_sample(struct watching *w, struct watched *run)
{
	cleanup_arena struct arena a = {0};
	const struct json *reply;
	struct error ignored;
	run->before = run->now;
	run->now = (struct sample){0};
	cleanup_fd int fd = supervise_connect(w->store, run->id, &ignored);
	if (fd < 0 ||
		supervise_call(fd, supervise_request_of("stats", NULL), &a, &reply, &ignored) < 0)
		return;
	run->now = (struct sample){
		.there = true,
		.time_ms = json_get_integer(reply, "time_ms", -1),
		.cpu_usec = json_get_integer(reply, "cpu_usec", -1),
		.memory = json_get_integer(reply, "memory_bytes", -1),
		.memory_limit = json_get_integer(reply, "memory_limit_bytes", -1),
		.read = json_get_integer(reply, "read_bytes", -1),
		.written = json_get_integer(reply, "write_bytes", -1),
		.pids = json_get_integer(reply, "pids", -1),
	};
}

static void take_samples(struct watching *w)
{
	for (size_t i = 0; i < w->count; i++)
		take_sample(w, &w->runs[i]);
}

// Percent of one processor, since the sample before; -1 if not known.
static double cpu_percent(const struct watched *run)
{
	const struct sample *n = &run->now, *b = &run->before;
	int64_t ms = n->time_ms - b->time_ms;
	if (!b->there || n->cpu_usec < 0 || b->cpu_usec < 0 || ms <= 0)
		return -1;
	return (double)(n->cpu_usec - b->cpu_usec) / (double)ms / 10;
}

static const char *size_text(int64_t bytes, char text[FORMAT_SIZE_MAX])
{
	return bytes < 0 ? "-" : format_size((uint64_t)bytes, text);
}

static void print_row(const struct watched *run, int width)
{
	char cpu[32] = "-", memory[FORMAT_SIZE_MAX], limit[FORMAT_SIZE_MAX], read[FORMAT_SIZE_MAX],
	     written[FORMAT_SIZE_MAX], pids[24] = "-";
	double percent = cpu_percent(run);
	if (percent >= 0)
		snprintf(cpu, sizeof(cpu), "%.1f%%", percent);
	if (run->now.pids >= 0)
		snprintf(pids, sizeof(pids), "%lld", (long long)run->now.pids);
	printf("%-*s  %8s  %10s  %10s  %10s  %10s  %5s\n", width, run->id, cpu,
		size_text(run->now.memory, memory), size_text(run->now.memory_limit, limit),
		size_text(run->now.read, read), size_text(run->now.written, written), pids);
}

static void print_table(const struct watching *w)
{
	int width = 3;
	for (size_t i = 0; i < w->count; i++) {
		int n = (int)strlen(w->runs[i].id);
		width = n > width ? n : width;
	}
	if (w->stream && isatty(STDOUT_FILENO))
		printf("\033[H\033[J");
	printf("%-*s  %8s  %10s  %10s  %10s  %10s  %5s\n", width, "RUN", "CPU", "MEMORY", "LIMIT",
		"READ", "WRITTEN", "PIDS");
	for (size_t i = 0; i < w->count; i++)
		if (w->runs[i].now.there)
			print_row(&w->runs[i], width);
}

static void write_number(struct json_writer *w, const char *key, int64_t value)
{
	if (value >= 0)
		json_write_member_int(w, key, value);
}

static int print_json(const struct watching *w, struct error *err)
{
	cleanup_json_writer struct json_writer *j = json_writer_new(!w->stream);
	cleanup_buffer struct buffer out = {0};
	json_write_open_array(j);
	for (size_t i = 0; i < w->count; i++) {
		const struct watched *run = &w->runs[i];
		double percent = cpu_percent(run);
		if (!run->now.there)
			continue;
		json_write_open_object(j);
		json_write_member(j, "run_id", run->id);
		if (percent >= 0) {
			json_write_key(j, "cpu_percent");
			json_write_double(j, percent);
		}
		write_number(j, "cpu_usec", run->now.cpu_usec);
		write_number(j, "memory_bytes", run->now.memory);
		write_number(j, "memory_limit_bytes", run->now.memory_limit);
		write_number(j, "read_bytes", run->now.read);
		write_number(j, "write_bytes", run->now.written);
		write_number(j, "pids", run->now.pids);
		json_write_close_object(j);
	}
	json_write_close_array(j);
	if (json_writer_finish(j, &out, err) < 0)
		return -1;
	printf("%.*s%s", (int)out.size, out.data, w->stream ? "\n" : "");
	return 0;
}

static void pause_ms(long ms)
{
	sleep_ms(ms);
}

static int show(struct watching *w, struct error *err)
{
	take_samples(w);
	pause_ms(FIRST_MS);
	for (;;) {
		take_samples(w);
		if (w->json && print_json(w, err) < 0)
			return -1;
		if (!w->json)
			print_table(w);
		if (fflush(stdout) < 0)
			return error_set_errno(err, errno, "standard output");
		if (!w->stream)
			return 0;
		pause_ms(PERIOD_MS);
	}
}

// Those that are named, else all.
static int choose_runs(
	struct watching *w, struct arena *a, char **names, int count, struct error *err)
{
	const char **ids;
	size_t found;
	if (count) {
		w->runs = arena_array(a, struct watched, (size_t)count);
		for (int i = 0; i < count; i++) {
			cleanup_run_found struct run_found run = {.fd = -1};
			if (run_find(w->store, names[i], &run, err) < 0)
				return -1;
			if (!run_is_active(w->store, run.id))
				return error_set(err, ERROR_NOT_FOUND, "run %s has ended", run.id);
			memcpy(w->runs[w->count++].id, run.id, sizeof(run.id));
		}
		return 0;
	}
	if (run_list(w->store, true, a, &ids, &found, err) < 0)
		return -1;
	w->runs = arena_array(a, struct watched, found + 1);
	for (size_t i = 0; i < found && i < RUNS_MAX; i++)
		snprintf(w->runs[w->count++].id, sizeof(w->runs->id), "%s", ids[i]);
	return 0;
}

int command_stats(struct command *c, int argc, char **argv, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct watching w = {0};
	bool once = false;
	const struct option options[] = {
		{OPTION_FLAG, 0, "no-stream", NULL, "once only", &once},
		{OPTION_FLAG, 0, "json", NULL, "for programs; a line each time", &w.json},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (command_open_runs(c, err) < 0)
		return -1;
	w.store = c->store;
	w.stream = !once;
	if (choose_runs(&w, &a, rest, count, err) < 0)
		return -1;
	return show(&w, err);
}
