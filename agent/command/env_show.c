// SPDX-License-Identifier: Apache-2.0
// `stoker env show` and `stoker env lock`.
#include "agent/command/env.h"

#include "base/json_write.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>

static int parse_lock(struct arena *a, const struct environment_record *r,
	struct environment_lock *lock, struct error *err)
{
	const char *text = r->lock ? r->lock : "";
	return environment_lock_parse(a, text, strlen(text), "lock", lock, err);
}

static void print_packages(const char *title, const struct lock_package *packages, size_t count)
{
	if (!count)
		return;
	printf("\n%s packages:\n", title);
	for (size_t i = 0; i < count; i++)
		printf("  %s %s%s%s\n", packages[i].name, packages[i].version,
			packages[i].build ? " " : "", packages[i].build ? packages[i].build : "");
}

static void print_text(struct command *c, const struct environment_record *r,
	const struct environment_lock *lock, const struct json_strings *requests)
{
	char size[FORMAT_SIZE_MAX], created[TIME_TEXT_SIZE], used[TIME_TEXT_SIZE];
	const char *gap = environment_lock_gap(lock);
	printf("Environment:  %s\n", r->key);
	printf("Image:        %s\n", r->base ? r->base : "(not known here)");
	printf("              %s, %s\n", lock->image, lock->platform);
	printf("Tool:         %s %s%s%s\n", lock->tool, lock->tool_version,
		lock->python ? ", with " : "", lock->python ? lock->python : "");
	printf("Layer:        %s, %s%s\n", r->layer ? r->layer : "", format_size(r->bytes, size),
		env_is_here(c, r) ? "" : ", not here (evicted)");
	printf("Origin:       %s\n", r->origin ? r->origin : "");
	printf("Created:      %s\n", format_time(r->created_ms, created));
	printf("Last used:    %s\n", format_time(r->used_ms, used));
	if (gap)
		printf("Lock:         not complete: no address or hash of %s\n", gap);
	for (size_t i = 0; i < requests->count; i++)
		printf("%-14s%s\n", i ? "" : "Requests:", requests->items[i]);
	if (r->activation.count)
		printf("\nVariables:\n");
	for (size_t i = 0; i < r->activation.count; i++)
		printf("  %s\n", r->activation.items[i]);
	print_packages("Conda", lock->conda, lock->conda_count);
	print_packages("Python", lock->pip, lock->pip_count);
}

static int print_json(struct command *c, struct arena *a, const struct environment_record *r,
	const struct json_strings *requests, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer out = {0};
	char time[TIME_TEXT_SIZE];
	const struct json *lock = json_parse(a, r->lock, strlen(r->lock), "lock", NULL, err);
	if (!lock)
		return -1;
	json_write_open_object(w);
	json_write_member(w, "key", r->key);
	json_write_member(w, "reference", r->reference);
	json_write_member(w, "image", r->base);
	json_write_member(w, "image_manifest", r->base_manifest);
	json_write_member(w, "layer", r->layer);
	json_write_member_unsigned(w, "bytes", r->bytes);
	json_write_member_bool(w, "here", env_is_here(c, r));
	json_write_member(w, "origin", r->origin);
	json_write_member(w, "created", format_time(r->created_ms, time));
	json_write_member(w, "used", format_time(r->used_ms, time));
	json_write_member_strings(w, "requests", requests);
	json_write_member_strings(w, "activation", &r->activation);
	json_write_key(w, "lock");
	json_write_tree(w, lock);
	json_write_close_object(w);
	if (json_writer_finish(w, &out, err) < 0)
		return -1;
	fwrite(out.data, 1, out.size, stdout);
	return 0;
}

int env_show(struct command *c, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "env show",
		.arguments = "KEY",
		.summary = "Show an environment: its image, its packages, its variables.",
		.least = 1,
		.most = 1,
	};
	bool json = false;
	const struct option options[] = {
		{OPTION_FLAG, 0, "json", NULL, "for programs", &json},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	cleanup_arena struct arena a = {0};
	struct environment_record record;
	struct environment_lock lock;
	struct json_strings requests;
	if (env_find(c, rest[0], &a, &record, err) < 0 || parse_lock(&a, &record, &lock, err) < 0 ||
		environment_requests_of(c->store, &a, record.key, NULL, &requests, err) < 0)
		return -1;
	if (json)
		return print_json(c, &a, &record, &requests, err);
	print_text(c, &record, &lock, &requests);
	return 0;
}

int env_lock(struct command *c, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "env lock",
		.arguments = "KEY",
		.summary = "Print the lock of an environment: its packages with addresses and "
			   "hashes, as JSON.\nThe same lock gives the same environment.",
		.least = 1,
		.most = 1,
	};
	char **rest;
	int count;
	int rc = command_options(c, NULL, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	cleanup_arena struct arena a = {0};
	struct environment_record record;
	if (env_find(c, rest[0], &a, &record, err) < 0)
		return -1;
	fputs(record.lock, stdout);
	return 0;
}
