// SPDX-License-Identifier: Apache-2.0
// `stoker env push` and `stoker env pull`.
#include "agent/command/env.h"
#include "agent/command/progress.h"
#include "agent/environment/share.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { REDRAW_MS = 100 };

// One line, drawn over on a terminal; elsewhere a line when a layer's phase changes.
struct line {
	bool terminal, drawn, quiet;
	int64_t at;
	enum push_phase phase;
	size_t layer;
};

static void line_end(struct line *l)
{
	if (l->drawn)
		fputs("\r\033[K", stderr);
	l->drawn = false;
}
#define cleanup_line __attribute__((cleanup(line_end)))

static void on_progress(void *data, enum push_phase phase, size_t layer, size_t count,
	uint64_t bytes, uint64_t total)
{
	static const char *const names[] = {
		[PUSH_LOOKING] = "looking for",
		[PUSH_COMPRESSING] = "compressing",
		[PUSH_FETCHING] = "fetching",
		[PUSH_SENDING] = "sending",
	};
	struct line *l = data;
	char done[FORMAT_SIZE_MAX], all[FORMAT_SIZE_MAX];
	int64_t now = now_ms();
	bool same = l->phase == phase && l->layer == layer && l->at;
	if (l->quiet || (same && (!l->terminal || now - l->at < REDRAW_MS)))
		return;
	l->at = now;
	l->phase = phase;
	l->layer = layer;
	if (!l->terminal) {
		if (phase != PUSH_LOOKING)
			fprintf(stderr, "%s layer %zu of %zu\n", names[phase], layer + 1, count);
		return;
	}
	fprintf(stderr, "\r\033[K%s layer %zu of %zu", names[phase], layer + 1, count);
	if (bytes)
		fprintf(stderr, "  %s%s%s", format_size(bytes, done), total ? " of " : "",
			total ? format_size(total, all) : "");
	l->drawn = true;
}

static void on_notice(void *data, const char *text)
{
	line_end(data);
	fprintf(stderr, "%s\n", text);
}

int env_push(struct command *c, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "env push",
		.arguments = "KEY [REFERENCE]",
		.summary = "Send an environment to a registry, as an image: the layers of its base "
			   "and one more.\nWithout a reference to environments.registry of "
			   "agent.yaml, where other nodes look.",
		.least = 1,
		.most = 2,
	};
	cleanup_line struct line line = {.terminal = isatty(STDERR_FILENO) == 1};
	const struct option options[] = {
		{OPTION_FLAG, 'q', "quiet", NULL, "no progress, only the digest", &line.quiet},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	cleanup_arena struct arena a = {0};
	struct environment_record record;
	struct oci_reference to;
	struct push_result result;
	const struct push_events events = {
		.progress = on_progress, .notice = on_notice, .data = &line};
	if ((count > 1 && oci_reference_parse(rest[1], &to, err) < 0) ||
		env_find(c, rest[0], &a, &record, err) < 0)
		return -1;
	const struct environment_push_options o = {
		.store = c->store,
		.config = &c->config,
		.key = record.key,
		.reference = count > 1 ? &to : NULL,
		.events = &events,
	};
	if (environment_push(&o, &result, err) < 0)
		return -1;
	line_end(&line);
	char size[FORMAT_SIZE_MAX];
	if (!line.quiet)
		fprintf(stderr, "%zu layers were there, %zu sent, %s\n", result.layers_found,
			result.layers_sent, format_size(result.sent, size));
	printf("%s\n", result.manifest.text);
	return 0;
}

int env_pull(struct command *c, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "env pull",
		.arguments = "REFERENCE",
		.summary =
			"Fetch an environment from a registry and check that it is what it says.",
		.least = 1,
		.most = 1,
	};
	bool quiet = false;
	const char *format_name = NULL;
	const struct option options[] = {
		{OPTION_FLAG, 'q', "quiet", NULL, "no progress, only the key", &quiet},
		{OPTION_STRING, 0, "layer-format", "FORM", "auto, erofs or directory",
			&format_name},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	cleanup_progress struct progress progress = {0};
	struct oci_reference from;
	enum layer_format format;
	struct environment_result result;
	const struct pull_events events = {.progress = progress_update, .notice = progress_notice};
	if (oci_reference_parse(rest[0], &from, err) < 0 || command_open(c, err) < 0 ||
		command_layer_format(c, format_name, &format, err) < 0)
		return -1;
	progress_init(&progress, &from);
	const struct environment_pull_options o = {
		.store = c->store,
		.config = &c->config,
		.reference = &from,
		.format = format,
		.events = quiet ? NULL : &events,
		.data = &progress,
	};
	if (environment_pull(&o, &result, err) < 0)
		return -1;
	store_layers_release(&result.layers);
	printf("%s\n", result.key);
	return 0;
}
