// SPDX-License-Identifier: Apache-2.0
#include "agent/data/outputs.h"
#include "agent/command/run_lookup.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"

#include <stdio.h>
#include <unistd.h>

static const struct options_usage usage = {
	.verb = "outputs",
	.arguments = "show RUN | push RUN",
	.summary = "Show how far a run's results are copied to their destination, or finish that.",
	.more = "Examples:\n"
		"  stoker outputs show digits_1764000000_0a1b2c3d\n"
		"  stoker outputs push digits_1764000000_0a1b2c3d --to /srv/results",
	.least = 2,
	.most = 2,
};

enum { DOCUMENT_MAX = 4 * 1024 * 1024 };

struct shown {
	struct outputs_status status;
	const struct json *document;
	bool json;
};

static int read_shown(
	struct shown *shown, const struct run_found *run, struct arena *a, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	int rc = outputs_status_read(run->fd, &shown->status, err);
	if (rc == 0)
		return error_set(err, ERROR_NOT_FOUND,
			"the outputs of run %s are not copied anywhere", run->id);
	if (rc < 0 || file_read(run->fd, "upload.json", DOCUMENT_MAX, &b, err) < 0)
		return -1;
	shown->document = json_parse(a, b.data ? b.data : "", b.size, "upload.json", NULL, err);
	return shown->document ? 0 : -1;
}

// upload.json with the state as it is: who wrote it may be gone.
static int print_json(const struct shown *s, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer out = {0};
	json_write_open_object(w);
	json_write_member(w, "state", outputs_state_name(s->status.state));
	json_write_member(w, "message", s->status.message[0] ? s->status.message : NULL);
	json_object_each (m, s->document) {
		if (streq(m->key, "state") || streq(m->key, "message"))
			continue;
		json_write_key(w, m->key);
		json_write_tree(w, &m->value);
	}
	json_write_close_object(w);
	if (json_writer_finish(w, &out, err) < 0)
		return -1;
	fwrite(out.data, 1, out.size, stdout);
	return 0;
}

static void print_text(const struct shown *s)
{
	char size[FORMAT_SIZE_MAX];
	const struct outputs_status *n = &s->status;
	const char *destination = json_get_string(s->document, "destination");
	const struct json *skipped = json_get(s->document, "skipped");
	const struct json *count = json_get(s->document, "skipped_count");
	printf("state        %s\n", outputs_state_name(n->state));
	if (destination)
		printf("destination  %s\n", destination);
	printf("copied       %llu files, %s\n", (unsigned long long)n->files,
		format_size(n->bytes, size));
	if (n->files_left)
		printf("left         %llu files, %s\n", (unsigned long long)n->files_left,
			format_size(n->bytes_left, size));
	if (n->message[0])
		printf("message      %s\n", n->message);
	if (!skipped || skipped->type != JSON_ARRAY || !skipped->count)
		return;
	printf("passed over  %lld\n",
		count && count->type == JSON_INTEGER ? (long long)count->integer : 0);
	json_array_each (item, skipped) {
		const char *path = json_get_string(&item->value, "path");
		const char *reason = json_get_string(&item->value, "reason");
		cleanup_free char *line =
			xasprintf("%s: %s", path ? path : "", reason ? reason : "");
		text_flatten(line);
		printf("  %s\n", line);
	}
}

static int show(const struct run_found *run, bool json, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct shown shown = {.json = json};
	if (read_shown(&shown, run, &a, err) < 0)
		return -1;
	if (json)
		return print_json(&shown, err);
	print_text(&shown);
	return 0;
}

// Where it went before; else where the node's outputs go.
static const char *destination_of(struct command *c, const struct run_found *run, struct arena *a)
{
	struct shown before = {0};
	struct error ignored;
	const char *known = read_shown(&before, run, a, &ignored) == 0
				    ? json_get_string(before.document, "destination")
				    : NULL;
	return known ? arena_strdup(a, known) : c->config.outputs.destination;
}

static void print_progress(const struct outputs_status *s)
{
	char done[FORMAT_SIZE_MAX], left[FORMAT_SIZE_MAX];
	if (s->state == OUTPUTS_RUNNING)
		fprintf(stderr, "copied %s, %s in %llu files to go\n", format_size(s->sent, done),
			format_size(s->bytes_left, left), (unsigned long long)s->files_left);
}

static int follow(struct outputs_link *link, struct outputs_status *last, struct error *err)
{
	int rc;
	while ((rc = outputs_receive(link, false, last, err)) > 0) {
		print_progress(last);
		if (last->state != OUTPUTS_RUNNING)
			return 0;
	}
	if (rc == 0)
		error_set(err, ERROR_SYSTEM, "the synchroniser ended without a result");
	return -1;
}

static int push(struct command *c, const struct run_found *run, const char *to, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct outputs_link link;
	struct outputs_status last = {0};
	char size[FORMAT_SIZE_MAX];
	if (run_is_active(c->store, run->id))
		return error_set(err, ERROR_INVALID,
			"run %s has not ended; its outputs are copied while it runs and at its end",
			run->id);
	cleanup_free char *absolute = to ? path_absolute(to, err) : NULL;
	if (to && !absolute)
		return -1;
	const char *destination = absolute ? absolute : destination_of(c, run, &a);
	if (!destination)
		return error_set(err, ERROR_INVALID,
			"there is no destination: give --to DIR, or outputs.destination in %s",
			"agent.yaml");
	const struct outputs_options o = {.run_fd = run->fd,
		.run_id = run->id,
		.attempt = run->attempt,
		.destination = destination,
		.policy = &c->config.outputs,
		.once = true};
	if (outputs_start(&o, &link, err) < 0)
		return -1;
	int rc = follow(&link, &last, err);
	outputs_link_release(&link);
	if (rc < 0)
		return -1;
	if (last.state != OUTPUTS_DONE)
		return error_set(err, ERROR_SYSTEM, "%s", last.message);
	printf("%llu files, %s, are at %s/%s\n", (unsigned long long)last.files,
		format_size(last.bytes, size), destination, run->id);
	return 0;
}

int command_outputs(struct command *c, int argc, char **argv, struct error *err)
{
	const char *to = NULL;
	bool json = false;
	const struct option options[] = {
		{OPTION_STRING, 0, "to", "DIR", "push: the destination, instead of the known one",
			&to},
		{OPTION_FLAG, 0, "json", NULL, "show: for programs", &json},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	bool is_push = streq(rest[0], "push");
	c->usage_error = true;
	if (!is_push && !streq(rest[0], "show"))
		return error_set(err, ERROR_INVALID,
			"outputs: \"%s\" is neither \"show\" nor \"push\"", rest[0]);
	if ((to && !is_push) || (json && is_push))
		return error_set(err, ERROR_INVALID, "--to is for push, and --json for show");
	c->usage_error = false;
	cleanup_run_found struct run_found run = {.fd = -1};
	if (command_open_runs(c, err) < 0 || run_find(c->store, rest[1], &run, err) < 0)
		return -1;
	return is_push ? push(c, &run, to, err) : show(&run, json, err);
}
