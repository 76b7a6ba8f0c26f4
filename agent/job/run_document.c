// SPDX-License-Identifier: Apache-2.0
#include "agent/job/run_document.h"

#include "agent/job/spec.h"
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

// Texts that come from tools and servers.
static void write_flat(struct json_writer *w, const char *key, const char *text)
{
	cleanup_free char *flat = xstrdup(text);
	text_flatten(flat);
	json_write_member(w, key, flat);
}

static void write_environment(struct json_writer *w, const struct run_environment *e)
{
	json_write_key(w, "environment");
	if (!e->key[0]) {
		json_write_null(w);
		return;
	}
	json_write_open_object(w);
	json_write_member(w, "key", e->key);
	json_write_member(w, "request_key", e->request_key);
	json_write_member_bool(w, "reused", e->reused);
	write_flat(w, "reason", e->reason);
	json_write_member(w, "base", e->base);
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
		if (p->detail[0])
			write_flat(w, "detail", p->detail);
		if (p->bytes)
			json_write_member_int(w, "bytes", (int64_t)p->bytes);
		if (p->total)
			json_write_member_unsigned(w, "total", p->total);
		if (p->rate)
			json_write_member_unsigned(w, "rate", p->rate);
		json_write_close_object(w);
	}
	json_write_close_array(w);
}

void run_document_write_stats(struct json_writer *w, const struct cgroup_stats *s)
{
	const struct {
		bool known;
		const char *name;
		uint64_t value;
	} all[] = {
		{s->has_cpu, "cpu_usec", s->cpu_usec},
		{s->has_cpu, "cpu_user_usec", s->cpu_user_usec},
		{s->has_cpu, "cpu_system_usec", s->cpu_system_usec},
		{s->has_cpu, "throttled_usec", s->throttled_usec},
		{s->has_memory, "memory_bytes", s->memory_bytes},
		{s->has_memory, "memory_peak_bytes", s->memory_peak_bytes},
		{s->has_memory, "oom_kills", s->oom_kills},
		{s->has_io, "read_bytes", s->read_bytes},
		{s->has_io, "write_bytes", s->write_bytes},
		{s->has_io, "read_operations", s->read_operations},
		{s->has_io, "write_operations", s->write_operations},
		{s->has_pids, "pids", s->pids},
	};
	for (size_t i = 0; i < array_size(all); i++)
		if (all[i].known)
			json_write_member_int(w, all[i].name, (int64_t)all[i].value);
}

static void write_stats(struct json_writer *w, const struct run *r)
{
	json_write_key(w, "resources");
	if (!r->has_stats) {
		json_write_null(w);
		return;
	}
	// What there is at one moment says nothing of a run that is over.
	struct cgroup_stats stats = r->stats;
	stats.has_pids = false;
	json_write_open_object(w);
	run_document_write_stats(w, &stats);
	json_write_close_object(w);
}

static void write_warnings(struct json_writer *w, const char *warnings)
{
	json_write_key(w, "warnings");
	json_write_open_array(w);
	for (const char *line = warnings ? warnings : "", *end; *line;
		line = end + (*end == '\n')) {
		end = strchrnul(line, '\n');
		cleanup_free char *text = xstrndup(line, (size_t)(end - line));
		text_flatten(text);
		json_write_string(w, text);
	}
	json_write_close_array(w);
}

static void write_description(struct json_writer *w, const struct job_spec *s)
{
	if (!s)
		return;
	if (s->display_name)
		json_write_member(w, "display_name", s->display_name);
	if (s->description)
		json_write_member(w, "description", s->description);
	json_write_member_pairs(w, "tags", &s->tags);
	json_write_member_pairs(w, "properties", &s->properties);
}

static void write_supervisor(struct json_writer *w, const struct run_supervisor *s)
{
	json_write_key(w, "supervisor");
	if (!s->pid) {
		json_write_null(w);
		return;
	}
	json_write_open_object(w);
	json_write_member_int(w, "pid", s->pid);
	json_write_member_int(w, "start_time", (int64_t)s->start_time);
	json_write_member_int(w, "container", s->container);
	json_write_close_object(w);
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

int run_document_write(const struct run *r, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	json_write_open_object(w);
	json_write_member(w, "run_id", r->id);
	json_write_member_int(w, "attempt", r->attempt);
	if (r->retried)
		json_write_member_bool(w, "retried", true);
	json_write_member(w, "experiment", r->experiment);
	write_description(w, r->spec);
	json_write_member(w, "state", run_state_name(r->state));
	write_cause(w, &r->cause);
	write_time(w, "created", r->created_ms);
	write_time(w, "started", r->started_ms);
	write_time(w, "ended", r->ended_ms);
	bool known = r->state == RUN_FINALIZING && r->outcome != RUN_NOT_STARTED;
	if (known)
		json_write_member(w, "outcome", run_state_name(r->outcome));
	if (r->ended_ms || known)
		json_write_member_int(w, "exit_status", r->exit_status);
	write_image(w, &r->image);
	write_environment(w, &r->environment);
	write_phases(w, r);
	write_stats(w, r);
	write_warnings(w, r->warnings);
	json_write_member(w, "cgroup", r->cgroup);
	json_write_member(w, "boot_id", r->boot_id);
	json_write_key(w, "client");
	json_write_open_object(w);
	json_write_member_int(w, "pid", r->client.pid);
	json_write_member_int(w, "start_time", (int64_t)r->client.start_time);
	json_write_close_object(w);
	write_supervisor(w, &r->supervisor);
	json_write_close_object(w);
	return save(r->fd, w, run_state_is_end(run_state_name(r->state)), err);
}

static struct cause interruption(const struct json *tree, bool has_folder)
{
	static const struct {
		const char *code, *message;
	} causes[] = {
		{"Interrupted", "stoker run was killed before the job was started"},
		{"supervisor_lost", "the supervisor of the job was killed; the job ended with it"},
		{"node_restarted", "the node restarted, or all that ran on it was killed"},
	};
	char boot[BOOT_ID_SIZE];
	const char *of_boot = json_get_string(tree, "boot_id");
	const struct json *supervisor = json_get(tree, "supervisor");
	bool had = supervisor && supervisor->type == JSON_OBJECT;
	boot_id_get(boot);
	bool restarted = (of_boot && !streq(of_boot, boot)) || (had && !has_folder);
	int i = restarted ? 2 : had ? 1 : 0;
	struct cause c = {.class = CAUSE_INFRASTRUCTURE, .code = causes[i].code, .exit_code = -1};
	snprintf(c.message, sizeof(c.message), "%s", causes[i].message);
	return c;
}

static void write_interrupted(
	struct json_writer *w, const struct json *tree, const struct cause *cause)
{
	json_write_open_object(w);
	json_object_each (member, tree) {
		if (streq(member->key, "state") || streq(member->key, "cause") ||
			streq(member->key, "ended") || streq(member->key, "exit_status"))
			continue;
		json_write_key(w, member->key);
		json_write_tree(w, &member->value);
	}
	json_write_member(w, "state", run_state_name(RUN_FAILED));
	write_cause(w, cause);
	write_time(w, "ended", wall_ms());
	json_write_member_int(w, "exit_status", 1);
	json_write_close_object(w);
}

// The script had ended, and only the tidying up was cut off.
static void write_outcome(struct json_writer *w, const struct json *tree, const char *outcome)
{
	json_write_open_object(w);
	json_object_each (member, tree) {
		if (streq(member->key, "state") || streq(member->key, "outcome") ||
			streq(member->key, "ended"))
			continue;
		json_write_key(w, member->key);
		json_write_tree(w, &member->value);
	}
	json_write_member(w, "state", outcome);
	write_time(w, "ended", wall_ms());
	json_write_close_object(w);
}

// A power cut may have left less than a document; then it is an empty one.
const struct json *run_document_tree(
	int dirfd, struct arena *a, struct buffer *b, struct error *err)
{
	static const struct json nothing = {.type = JSON_OBJECT};
	if (file_read(dirfd, "run.json", DOCUMENT_BYTES_MAX, b, err) < 0 &&
		err->kind != ERROR_NOT_FOUND)
		return NULL;
	const struct json *tree =
		json_parse(a, b->data ? b->data : "", b->size, "run.json", NULL, err);
	error_clear(err);
	return tree && tree->type == JSON_OBJECT ? tree : &nothing;
}

int run_document_interrupt(int dirfd, bool has_folder, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer b = {0};
	const struct json *tree = run_document_tree(dirfd, &a, &b, err);
	if (!tree)
		return -1;
	const char *state = json_get_string(tree, "state");
	if (state && run_state_is_end(state))
		return 0;
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	const char *outcome = json_get_string(tree, "outcome");
	if (outcome && run_state_is_end(outcome)) {
		write_outcome(w, tree, outcome);
	} else {
		const struct cause cause = interruption(tree, has_folder);
		write_interrupted(w, tree, &cause);
	}
	unlinkat(dirfd, ".run.json.tmp", 0);
	return save(dirfd, w, true, err);
}

int run_document_read(int dirfd, struct arena *a, struct run_summary *s, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	const struct json *tree = run_document_tree(dirfd, a, &b, err);
	if (!tree)
		return -1;
	const struct json *cause = json_get(tree, "cause"), *sv = json_get(tree, "supervisor");
	const struct json *client = json_get(tree, "client");
	const char *state = json_get_string(tree, "state");
	// The image that was asked for, and not the one that its environment made of it.
	const char *base = json_get_string(json_get(tree, "environment"), "base");
	*s = (struct run_summary){
		.id = json_get_string(tree, "run_id"),
		.experiment = json_get_string(tree, "experiment"),
		.state = state ? state : run_state_name(RUN_NOT_STARTED),
		.image = base ? base : json_get_string(json_get(tree, "image"), "reference"),
		.created = json_get_string(tree, "created"),
		.started = json_get_string(tree, "started"),
		.ended = json_get_string(tree, "ended"),
		.cause_class = json_get_string(cause, "class"),
		.cause = json_get_string(cause, "code"),
		.message = json_get_string(cause, "message"),
		.attempt = (unsigned)json_get_integer(tree, "attempt", 1),
		.retried = json_get(tree, "retried") != NULL,
		.exit_status = (int)json_get_integer(tree, "exit_status", -1),
		.cgroup = json_get_string(tree, "cgroup"),
		.client = json_get_integer(client, "pid", 0),
		.client_start = json_get_integer(client, "start_time", 0),
		.supervisor = json_get_integer(sv, "pid", 0),
		.container = json_get_integer(sv, "container", 0),
	};
	return 0;
}
