// SPDX-License-Identifier: Apache-2.0
#include "agent/command/run_prepare.h"

#include "agent/command/command.h"
#include "agent/command/phase_line.h"
#include "agent/environment/environment.h"
#include "base/file.h"
#include "base/text.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { AGAIN_MS = 2000, AGAIN_MS_MAX = 60 * 1000, EVIDENCE_LINES = 20 };

// ---- image

static int load_image(struct run_prepare *p, const struct store_image *image, struct error *err)
{
	struct oci_manifest manifest;
	return store_image_load(p->command->store, image, &p->arena, &manifest, &p->config, err);
}

// The layers are leased, the documents are not: `stoker rmi` may take those away before they are
// read. A second pull brings them back, or says as usual that the image is not here.
static int get_image(struct run_prepare *p, struct error *err)
{
	struct command *c = p->command;
	struct run *run = p->job->run;
	struct pull_result pulled;
	struct command_pull o = {
		.reference = &p->request->reference,
		.platform = p->request->platform ? &p->request->wanted : NULL,
		.policy = p->request->policy,
		.canceled = &p->canceled,
	};
	if (run_enter(run, RUN_PREPARING, "pulling", err) < 0 ||
		command_layer_format(c, NULL, &o.format, err) < 0)
		return -1;
	for (bool again = false;; again = true) {
		if (command_pull_image(c, &o, &pulled, &p->layers, err) < 0)
			return -1;
		if (load_image(p, &pulled.image, err) == 0)
			break;
		if (again || err->kind != ERROR_NOT_FOUND)
			return -1;
		store_layers_release(&p->layers);
		error_clear(err);
	}
	run->image = pulled.image;
	run_explain(run, pulled.fetched, "%s", pulled.pulled ? "pulled" : "was here");
	return 0;
}

// ---- environment

static void on_phase(void *data, const char *name, const char *detail)
{
	phase_line_begin(data, name, detail);
}

static void on_progress(void *data, uint64_t done, uint64_t total)
{
	phase_line_update(data, done, total);
}

static void on_notice(void *data, const char *text)
{
	phase_line_notice(data, text);
}

static int open_log(const struct run *run, struct error *err)
{
	cleanup_fd int folder = directory_ensure(run->fd, "system_logs", 0755, err);
	if (folder < 0)
		return -1;
	int fd = openat(folder, "environment.log",
		O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644);
	return fd < 0 ? error_set_errno(err, errno, "make system_logs/environment.log") : fd;
}

// The tool's own words, after ours.
static void show_evidence(const struct run *run, const struct environment_trouble *t)
{
	const char *from = t->evidence.data;
	if (!from || !t->evidence.size)
		return;
	const char *p = from + t->evidence.size;
	for (int lines = 0; p > from && lines <= EVIDENCE_LINES; p -= lines <= EVIDENCE_LINES)
		lines += p[-1] == '\n';
	for (const char *end; *p; p = end + (*end == '\n')) {
		end = strchrnul(p, '\n');
		cleanup_free char *line = xstrndup(p, (size_t)(end - p));
		text_flatten(line);
		if (*line)
			fprintf(stderr, "  | %s\n", line);
	}
	fprintf(stderr, "  all of it: %s/system_logs/environment.log\n", run->path);
}

static int fail_environment(
	struct run_prepare *p, const struct environment_trouble *t, const struct error *err)
{
	show_evidence(p->job->run, t);
	p->cause = (struct cause){
		.class = environment_failure_class(t->failure),
		.code = environment_failure_name(t->failure),
		.exit_code = -1,
	};
	snprintf(p->cause.message, sizeof(p->cause.message), "%s", err->text);
	return -1;
}

// From here on the job's image is the derived one.
static int use_environment(struct run_prepare *p, struct environment_result *r, struct error *err)
{
	struct run *run = p->job->run;
	struct run_environment *e = &run->environment;
	snprintf(e->key, sizeof(e->key), "%s", r->key);
	snprintf(e->request_key, sizeof(e->request_key), "%s", r->request_key);
	snprintf(e->reason, sizeof(e->reason), "%s", r->reason);
	e->reused = r->reused;
	oci_reference_format(&run->image.reference, e->base);
	store_layers_release(&p->layers);
	p->layers = r->layers;
	r->layers = (struct store_layers){0};
	run->image = r->image;
	run_explain(run, r->fetched, "%s", r->reason);
	return load_image(p, &r->image, err);
}

static int get_environment(struct run_prepare *p, struct error *err)
{
	struct run *run = p->job->run;
	const struct job_environment *wanted = &p->job->spec->environment;
	struct environment_result result = {0};
	struct environment_trouble trouble = {0};
	struct phase_line line;
	const struct environment_events events = {
		.phase = on_phase, .progress = on_progress, .notice = on_notice, .data = &line};
	if (!wanted->given || wanted->user_managed)
		return 0;
	if (run_enter(run, RUN_PREPARING, "environment", err) < 0)
		return -1;
	cleanup_fd int log = open_log(run, err);
	if (log < 0)
		return -1;
	const struct environment_options o = {
		.store = p->command->store,
		.config = &p->command->config,
		.request = wanted,
		.image = &run->image,
		.layers = &p->layers,
		.log_fd = log,
		.events = &events,
		.canceled = &p->canceled,
	};
	phase_line_init(&line, "environment");
	int rc = environment_ensure(&o, &result, &trouble, err);
	phase_line_end(&line);
	if (rc == 0) {
		fprintf(stderr, "environment %s: %.12s, %s\n", result.reused ? "reused" : "ready",
			result.key, result.reason);
		rc = use_environment(p, &result, err);
		environment_result_release(&result);
	} else {
		fail_environment(p, &trouble, err);
	}
	environment_trouble_release(&trouble);
	return rc;
}

// ---- inputs

static const char *secret_of(void *data, const char *name)
{
	const struct job_spec *spec = data;
	for (size_t i = 0; i < spec->secret_count; i++)
		if (streq(spec->secrets[i].name, name))
			return spec->secrets[i].value;
	return NULL;
}

struct inputs_line {
	struct phase_line line;
	const struct job_spec *spec;
	uint64_t *done, *total; // by input
};

static void on_input(void *data, size_t index, uint64_t done, uint64_t total)
{
	struct inputs_line *l = data;
	uint64_t all_done = 0, all = 0;
	l->done[index] = done;
	l->total[index] = total;
	for (size_t i = 0; i < l->spec->input_count; i++) {
		all_done += l->done[i];
		all += l->total[i];
	}
	phase_line_update(&l->line, all_done, all);
}

static void on_input_notice(void *data, const char *text)
{
	struct inputs_line *l = data;
	phase_line_notice(&l->line, text);
}

static bool needs_preparing(const struct data_source *s)
{
	return s->mode == DATA_DOWNLOAD || s->kind == DATA_HTTP || s->kind == DATA_OCI ||
	       s->kind == DATA_INLINE || (s->kind == DATA_FSIMAGE && s->file_count);
}

static void explain_inputs(
	struct run *run, const struct job_spec *spec, const struct data_ready *ready)
{
	uint64_t fetched = 0, bytes = 0;
	size_t reused = 0, count = 0;
	for (size_t i = 0; i < spec->input_count; i++) {
		if (!ready[i].digest)
			continue;
		count++;
		reused += ready[i].reused;
		fetched += ready[i].fetched;
		bytes += ready[i].bytes;
	}
	char size[FORMAT_SIZE_MAX];
	run_explain(run, fetched, "%zu inputs of %s, %zu of them were here", count,
		format_size(bytes, size), reused);
}

static int get_inputs(struct run_prepare *p, struct error *err)
{
	const struct job_spec *spec = p->job->spec;
	struct inputs_line line = {.spec = spec};
	const struct data_events events = {
		.progress = on_input, .notice = on_input_notice, .data = &line};
	enum data_failure failure = DATA_FAILED;
	size_t failed = 0;
	bool any = false;
	for (size_t i = 0; i < spec->input_count; i++)
		any = any || needs_preparing(&spec->inputs[i]);
	if (!any)
		return 0;
	line.done = arena_array(&p->arena, uint64_t, spec->input_count);
	line.total = arena_array(&p->arena, uint64_t, spec->input_count);
	if (run_enter(p->job->run, RUN_PREPARING, "inputs", err) < 0)
		return -1;
	struct data_ready *ready;
	struct data_options o = {
		.store = p->command->store,
		.policy = &p->command->config.data,
		.registries = &p->command->config.registries,
		.sources = spec->inputs,
		.count = spec->input_count,
		.secret = secret_of,
		.events = &events,
		.data = (void *)spec,
		.canceled = &p->canceled,
	};
	if (command_layer_format(p->command, NULL, &o.layer_format, err) < 0)
		return -1;
	phase_line_init(&line.line, "inputs");
	phase_line_begin(&line.line, "fetching", NULL);
	int rc = data_prepare(&o, &p->arena, &ready, &failed, &failure, err);
	phase_line_end(&line.line);
	if (rc < 0) {
		p->cause = cause_of_data(failure, err);
		return -1;
	}
	explain_inputs(p->job->run, spec, ready);
	p->job->ready = ready;
	return 0;
}

// ---- all of it

static int prepare_once(struct run_prepare *p, struct error *err)
{
	p->cause = (struct cause){0};
	p->phase = CAUSE_PULLING;
	if (get_image(p, err) < 0)
		return -1;
	p->phase = CAUSE_PREPARING;
	if (get_environment(p, err) < 0 || get_inputs(p, err) < 0 ||
		run_enter(p->job->run, RUN_PREPARING, "preparing", err) < 0)
		return -1;
	return job_snapshot(p->job, &p->command->config.policy, err);
}

// Signals are held back since the pull: one that comes ends the wait.
static bool rest(struct run_prepare *p, int64_t ms)
{
	sigset_t ends;
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	int signo = sigtimedwait(&ends, NULL, &time);
	if (signo > 0)
		p->canceled = signo;
	return signo <= 0;
}

static bool is_worth_it(struct run_prepare *p, const struct error *err)
{
	if (!p->cause.code)
		p->cause = cause_of_error(p->phase, err);
	return !p->canceled && p->cause.class == CAUSE_INFRASTRUCTURE;
}

int run_prepare(struct run_prepare *p, struct error *err)
{
	struct job *job = p->job;
	int64_t ms = AGAIN_MS;
	job->image = &p->config;
	job->layers = &p->layers;
	p->phase = CAUSE_CHECKING;
	const struct config *config = &p->command->config;
	if (job_check(job->spec, config, NULL, err) < 0)
		return -1;
	p->phase = CAUSE_PREPARING; // where a refusal is the node's decision
	if (job_check_allowed(job->spec, config, err) < 0)
		return -1;
	for (uint64_t tries = 0; prepare_once(p, err) < 0; tries++) {
		store_layers_release(&p->layers);
		if (!is_worth_it(p, err) || tries >= job->spec->max_retries)
			return -1;
		fprintf(stderr, "%s: %s; tried again in %lld s\n", job->run->id, err->text,
			(long long)(ms / 1000));
		if (!rest(p, ms))
			return -1;
		ms = ms * 2 < AGAIN_MS_MAX ? ms * 2 : AGAIN_MS_MAX;
		error_clear(err);
	}
	return 0;
}

void run_prepare_release(struct run_prepare *p)
{
	store_layers_release(&p->layers);
	arena_release(&p->arena);
}
