// SPDX-License-Identifier: Apache-2.0
#include "agent/command/run_lookup.h"
#include "agent/environment/environment.h"
#include "base/json_write.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "ps",
	.arguments = "",
	.summary = "List the runs that go on, the newest first.",
};

struct row {
	const char *id;
	struct run_summary run;
	int64_t created_us;
	bool active;
};

static int64_t microseconds(const char *text)
{
	int64_t us;
	return text && parse_time(text, &us) ? us : 0;
}

static int newest_first(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	return x->created_us < y->created_us ? 1 : x->created_us > y->created_us ? -1 : 0;
}

// A run that is removed meanwhile is passed over. What builds environments is seen as the phase of
// the run that waits for it, and by itself only among all.
static int read_rows(struct store *s, bool all, struct arena *a, struct row **rows, size_t *count,
	struct error *err)
{
	const char **ids;
	size_t found;
	if (run_list(s, !all, a, &ids, &found, err) < 0)
		return -1;
	*rows = arena_array(a, struct row, found + 1);
	*count = 0;
	for (size_t i = 0; i < found; i++) {
		cleanup_run_found struct run_found run = {.fd = -1};
		struct error ignored;
		struct row *row = &(*rows)[*count];
		if ((!all && environment_step_is(s, ids[i])) ||
			run_find(s, ids[i], &run, &ignored) < 0 ||
			run_document_read(run.fd, a, &row->run, &ignored) < 0)
			continue;
		row->id = ids[i];
		row->created_us = microseconds(row->run.created);
		row->active = !run_state_is_end(row->run.state);
		(*count)++;
	}
	qsort(*rows, *count, sizeof(**rows), newest_first);
	return 0;
}

static void describe_duration(const struct run_summary *r, char text[32])
{
	int64_t from = microseconds(r->started), to = microseconds(r->ended);
	if (!from) {
		snprintf(text, 32, "-");
		return;
	}
	int64_t s = ((to ? to : wall_ms() * 1000) - from) / 1000000;
	if (s < 120)
		snprintf(text, 32, "%lld s", (long long)(s < 0 ? 0 : s));
	else if (s < 2 * 3600)
		snprintf(text, 32, "%lld min", (long long)(s / 60));
	else if (s < 2 * 86400)
		snprintf(text, 32, "%lld h", (long long)(s / 3600));
	else
		snprintf(text, 32, "%lld days", (long long)(s / 86400));
}

static const char *image_name(const struct run_summary *r, char text[OCI_REFERENCE_TEXT_MAX])
{
	struct oci_reference reference;
	struct error ignored;
	if (!r->image)
		return "-";
	if (oci_reference_parse(r->image, &reference, &ignored) < 0)
		return r->image;
	return oci_reference_familiar(&reference, text);
}

static void print_table(const struct row *rows, size_t count)
{
	char image[OCI_REFERENCE_TEXT_MAX], duration[32];
	int run = 3, width = 5;
	for (size_t i = 0; i < count; i++) {
		int n = (int)strlen(rows[i].id), m = (int)strlen(image_name(&rows[i].run, image));
		run = n > run ? n : run;
		width = m > width ? m : width;
	}
	printf("%-*s  %-15s  %-*s  %-20s  %-8s  %7s  %s\n", run, "RUN", "STATE", width, "IMAGE",
		"STARTED", "DURATION", "PID", "CAUSE");
	for (size_t i = 0; i < count; i++) {
		const struct run_summary *r = &rows[i].run;
		char pid[24] = "-";
		if (rows[i].active && r->container)
			snprintf(pid, sizeof(pid), "%lld", (long long)r->container);
		describe_duration(r, duration);
		printf("%-*s  %-15s  %-*s  %-.19s%-*s  %-8s  %7s  %s\n", run, rows[i].id, r->state,
			width, image_name(r, image), r->started ? r->started : "-",
			r->started ? 1 : 19, r->started ? "Z" : "", duration, pid,
			r->message ? r->message : "");
	}
}

static void write_row(struct json_writer *w, const struct row *row)
{
	const struct run_summary *r = &row->run;
	json_write_open_object(w);
	json_write_member(w, "run_id", row->id);
	json_write_member(w, "experiment", r->experiment);
	json_write_member(w, "state", r->state);
	json_write_member(w, "image", r->image);
	json_write_member(w, "created", r->created);
	json_write_member(w, "started", r->started);
	json_write_member(w, "ended", r->ended);
	json_write_member_int(w, "pid", row->active ? r->container : 0);
	json_write_member_int(w, "supervisor", row->active ? r->supervisor : 0);
	json_write_member(w, "class", r->cause_class);
	json_write_member(w, "code", r->cause);
	json_write_member(w, "message", r->message);
	if (r->exit_status >= 0)
		json_write_member_int(w, "exit_status", r->exit_status);
	json_write_close_object(w);
}

static int print_json(const struct row *rows, size_t count, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer out = {0};
	json_write_open_array(w);
	for (size_t i = 0; i < count; i++)
		write_row(w, &rows[i]);
	json_write_close_array(w);
	if (json_writer_finish(w, &out, err) < 0)
		return -1;
	fwrite(out.data, 1, out.size, stdout);
	return 0;
}

int command_ps(struct command *c, int argc, char **argv, struct error *err)
{
	bool all = false, json = false;
	const struct option options[] = {
		{OPTION_FLAG, 'a', "all", NULL, "those that have ended too, and steps of builds",
			&all},
		{OPTION_FLAG, 0, "json", NULL, "for programs", &json},
		{OPTION_END},
	};
	cleanup_arena struct arena a = {0};
	struct row *rows;
	size_t count;
	char **rest;
	int rest_count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &rest_count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (command_open_runs(c, err) < 0 || read_rows(c->store, all, &a, &rows, &count, err) < 0)
		return -1;
	if (json)
		return print_json(rows, count, err);
	print_table(rows, count);
	return 0;
}
