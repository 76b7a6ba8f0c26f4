// SPDX-License-Identifier: Apache-2.0
#include "agent/job/run_document.h"

#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <unistd.h>

enum { DOCUMENT_BYTES_MAX = 1024 * 1024 };

static void write_time(struct json_writer *w, const char *key, int64_t ms)
{
	char text[TIME_TEXT_SIZE];
	json_write_member(w, key, ms ? format_time(ms, text) : NULL);
}

static void write_cause(struct json_writer *w, const struct cause *c)
{
	json_write_key(w, "cause");
	if (!c->code) {
		json_write_null(w);
		return;
	}
	json_write_open_object(w);
	json_write_member(w, "class", cause_class_name(c->class));
	json_write_member(w, "code", c->code);
	json_write_member(w, "message", c->message);
	if (c->exit_code >= 0)
		json_write_member_int(w, "exit_code", c->exit_code);
	if (c->signal)
		json_write_member_int(w, "signal", c->signal);
	json_write_close_object(w);
}

static void write_image(struct json_writer *w, const struct store_image *image)
{
	char text[OCI_REFERENCE_TEXT_MAX], platform[OCI_PLATFORM_TEXT_MAX];
	json_write_key(w, "image");
	if (!image->reference.path[0]) {
		json_write_null(w);
		return;
	}
	json_write_open_object(w);
	json_write_member(w, "reference", oci_reference_format(&image->reference, text));
	json_write_member(w, "digest", image->target.text);
	json_write_member(w, "manifest", image->manifest.text);
	json_write_member(w, "config", image->config.text);
	json_write_member(w, "platform", oci_platform_format(&image->platform, platform));
	json_write_close_object(w);
}

static void write_phases(struct json_writer *w, const struct run *r)
{
	json_write_key(w, "phases");
	json_write_open_array(w);
	for (size_t i = 0; i < r->phase_count; i++) {
		const struct run_phase *p = &r->phases[i];
		json_write_open_object(w);
		json_write_member(w, "name", p->name);
		write_time(w, "start", p->start_ms);
		if (p->end_ms)
			json_write_member_int(w, "duration_ms", p->end_ms - p->start_ms);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

// By rename, so a reader sees one state or the next, but without fsync: after a power cut the run
// has ended anyway, and run_document_interrupt() writes that. A start would else wait for the disk
// five times.
static int save_quickly(int dirfd, const struct buffer *b, struct error *err)
{
	cleanup_fd int fd = openat(dirfd, ".run.json.tmp",
		O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return error_set_errno(err, errno, "make run.json");
	if (write_all(fd, b->data, b->size, "run.json", err) < 0)
		return -1;
	if (renameat(dirfd, ".run.json.tmp", dirfd, "run.json") < 0)
		return error_set_errno(err, errno, "rename run.json");
	return 0;
}

static int save(int dirfd, struct json_writer *w, bool durable, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	if (json_writer_finish(w, &b, err) < 0)
		return error_context(err, "run.json");
	if (!durable)
		return save_quickly(dirfd, &b, err);
	return file_write_atomic(dirfd, "run.json", b.data, b.size, 0644, err);
}

static bool is_end(const char *state)
{
	return streq(state, run_state_name(RUN_COMPLETED)) ||
	       streq(state, run_state_name(RUN_FAILED)) ||
	       streq(state, run_state_name(RUN_CANCELED));
}

int run_document_write(const struct run *r, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	json_write_open_object(w);
	json_write_member(w, "run_id", r->id);
	json_write_member_int(w, "attempt", 1);
	json_write_member(w, "experiment", r->experiment);
	json_write_member(w, "state", run_state_name(r->state));
	write_cause(w, &r->cause);
	write_time(w, "created", r->created_ms);
	write_time(w, "started", r->started_ms);
	write_time(w, "ended", r->ended_ms);
	write_image(w, &r->image);
	write_phases(w, r);
	json_write_close_object(w);
	return save(r->fd, w, is_end(run_state_name(r->state)), err);
}

static void write_interrupted(struct json_writer *w, const struct json *tree)
{
	static const struct cause cause = {
		.class = CAUSE_INFRASTRUCTURE,
		.code = "Interrupted",
		.message = "the process that ran the job was killed, or the node restarted",
		.exit_code = -1,
	};
	json_write_open_object(w);
	json_object_each (member, tree) {
		if (streq(member->key, "state") || streq(member->key, "cause") ||
			streq(member->key, "ended"))
			continue;
		json_write_key(w, member->key);
		json_write_tree(w, &member->value);
	}
	json_write_member(w, "state", run_state_name(RUN_FAILED));
	write_cause(w, &cause);
	write_time(w, "ended", wall_ms());
	json_write_close_object(w);
}

int run_document_interrupt(int dirfd, struct error *err)
{
	static const struct json nothing = {.type = JSON_OBJECT};
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer b = {0};
	if (file_read(dirfd, "run.json", DOCUMENT_BYTES_MAX, &b, err) < 0 &&
		err->kind != ERROR_NOT_FOUND)
		return -1;
	// A power cut may have left less than a document.
	const struct json *tree =
		json_parse(&a, b.data ? b.data : "", b.size, "run.json", NULL, err);
	if (!tree || tree->type != JSON_OBJECT)
		tree = &nothing;
	error_clear(err);
	const char *state = json_get_string(tree, "state");
	if (state && is_end(state))
		return 0;
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	write_interrupted(w, tree);
	unlinkat(dirfd, ".run.json.tmp", 0);
	return save(dirfd, w, true, err);
}
