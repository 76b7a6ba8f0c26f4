// SPDX-License-Identifier: Apache-2.0
// `stoker env ls` and `stoker env rm`.
#include "agent/command/env.h"

#include "base/json_write.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>

static size_t package_count(struct arena *a, const struct environment_record *r)
{
	struct environment_lock lock;
	struct error ignored;
	if (!r->lock ||
		environment_lock_parse(a, r->lock, strlen(r->lock), "lock", &lock, &ignored) < 0)
		return 0;
	return lock.conda_count + lock.pip_count;
}

static void print_table(
	struct command *c, struct arena *a, const struct environment_record *list, size_t count)
{
	char size[FORMAT_SIZE_MAX], used[TIME_TEXT_SIZE];
	printf("%-12s  %8s  %9s  %-4s  %-20s  %s\n", "KEY", "PACKAGES", "SIZE", "HERE", "LAST USED",
		"IMAGE");
	for (size_t i = 0; i < count; i++) {
		const struct environment_record *r = &list[i];
		format_time(r->used_ms, used);
		printf("%.12s  %8zu  %9s  %-4s  %.19sZ  %s\n", r->key, package_count(a, r),
			format_size(r->bytes, size), env_is_here(c, r) ? "yes" : "no", used,
			r->base		   ? r->base
			: r->base_manifest ? r->base_manifest
					   : "");
	}
}

static int print_json(struct command *c, struct arena *a, const struct environment_record *list,
	size_t count, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer out = {0};
	char time[TIME_TEXT_SIZE];
	json_write_open_array(w);
	for (size_t i = 0; i < count; i++) {
		const struct environment_record *r = &list[i];
		json_write_open_object(w);
		json_write_member(w, "key", r->key);
		json_write_member(w, "reference", r->reference);
		json_write_member(w, "image", r->base);
		json_write_member(w, "image_manifest", r->base_manifest);
		json_write_member_int(w, "packages", (int64_t)package_count(a, r));
		json_write_member_unsigned(w, "bytes", r->bytes);
		json_write_member_bool(w, "here", env_is_here(c, r));
		json_write_member(w, "origin", r->origin);
		json_write_member(w, "created", format_time(r->created_ms, time));
		json_write_member(w, "used", format_time(r->used_ms, time));
		json_write_close_object(w);
	}
	json_write_close_array(w);
	if (json_writer_finish(w, &out, err) < 0)
		return -1;
	fwrite(out.data, 1, out.size, stdout);
	return 0;
}

int env_ls(struct command *c, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "env ls",
		.arguments = "",
		.summary = "List the environments on this node, the newest first. One whose layers "
			   "were evicted\nis built again from its lock when a job needs it.",
	};
	bool json = false;
	const struct option options[] = {
		{OPTION_FLAG, 0, "json", NULL, "for programs", &json},
		{OPTION_END},
	};
	char **rest;
	int rest_count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &rest_count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	cleanup_arena struct arena a = {0};
	struct environment_record *records;
	size_t count;
	if (command_open(c, err) < 0 ||
		environment_record_list(c->store, &a, &records, &count, err) < 0)
		return -1;
	if (json)
		return print_json(c, &a, records, count, err);
	print_table(c, &a, records, count);
	return 0;
}

int env_rm(struct command *c, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "env rm",
		.arguments = "KEY…",
		.summary =
			"Remove environments, with their layers. One that a job uses is refused.",
		.least = 1,
		.most = -1,
	};
	char **rest;
	int count;
	int rc = command_options(c, NULL, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	cleanup_free char(*keys)[ENVIRONMENT_KEY_SIZE] = xcalloc((size_t)count, sizeof(*keys));
	if (command_open(c, err) < 0)
		return -1;
	// All names are checked before anything goes.
	for (int i = 0; i < count; i++)
		if (environment_record_resolve(c->store, rest[i], keys[i], err) < 0)
			return -1;
	for (int i = 0; i < count; i++)
		if (environment_record_remove(c->store, keys[i], err) < 0 &&
			err->kind != ERROR_NOT_FOUND)
			return -1;
	return 0;
}
