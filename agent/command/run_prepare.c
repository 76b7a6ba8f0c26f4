// SPDX-License-Identifier: Apache-2.0
#include "agent/command/run_prepare.h"

#include "agent/command/command.h"
#include "agent/command/phase_line.h"
#include "agent/command/run_inputs.h"
#include "agent/environment/environment.h"
#include "agent/job/run_document.h"
#include "base/file.h"
#include "base/process.h"
#include "base/text.h"
#include "base/time.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { AGAIN_MS = 2000, AGAIN_MS_MAX = 60 * 1000, EVIDENCE_LINES = 20 };

// ---- image

static int load_image(struct run_prepare *p, const struct store_image *image, struct error *err)
{
	struct oci_manifest manifest;
	return store_image_load(p->command->store, image, &p->arena, &manifest, &p->config, err);
}

static void on_bytes(void *data, uint64_t done, uint64_t total)
{
	run_progress(data, done, total);
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
		.progress = on_bytes,
		.data = run,
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

struct environment_line {
	struct phase_line line;
	struct run *run;
};

static void on_phase(void *data, const char *name, const char *detail)
{
	struct environment_line *l = data;
	struct error ignored; // the next writing tells it
	phase_line_begin(&l->line, name, detail);
	run_explain(l->run, 0, "%s", name);
	run_document_write(l->run, &ignored);
}

static void on_progress(void *data, uint64_t done, uint64_t total)
{
	struct environment_line *l = data;
	phase_line_update(&l->line, done, total);
	run_progress(l->run, done, total);
}

static void on_notice(void *data, const char *text)
{
	struct environment_line *l = data;
	phase_line_notice(&l->line, text);
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

// Where nothing was run.
static void drop_empty_log(const struct run *run, int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0 || st.st_size)
		return;
	unlinkat(run->fd, "system_logs/environment.log", 0);
	unlinkat(run->fd, "system_logs", AT_REMOVEDIR);
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
	if (!t->remembered)
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
	struct environment_line line = {.run = run};
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
	phase_line_init(&line.line, "environment");
	int rc = environment_ensure(&o, &result, &trouble, err);
	phase_line_end(&line.line);
	drop_empty_log(run, log);
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

// ---- all of it

void run_prepare_hold_signals(void)
{
	sigset_t ends;
	process_end_signals(&ends);
	sigprocmask(SIG_BLOCK, &ends, NULL);
}

// false: a signal has come, or comes within that time.
static bool rest(struct run_prepare *p, int64_t ms)
{
	sigset_t ends;
	process_end_signals(&ends);
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	int signo = sigtimedwait(&ends, NULL, &time);
	if (signo > 0)
		p->canceled = signo;
	return signo <= 0;
}

static int prepare_once(struct run_prepare *p, struct error *err)
{
	p->cause = (struct cause){0};
	p->phase = CAUSE_PULLING;
	if (get_image(p, err) < 0)
		return -1;
	p->phase = CAUSE_PREPARING;
	if (get_environment(p, err) < 0 || run_inputs(p, err) < 0 ||
		run_enter(p->job->run, RUN_PREPARING, "preparing", err) < 0 ||
		job_snapshot(p->job, &p->command->config.policy, err) < 0)
		return -1;
	return rest(p, 0) ? 0 : error_set(err, ERROR_UNAVAILABLE, "canceled");
}

static bool is_worth_it(struct run_prepare *p, const struct error *err)
{
	if (!p->cause.code)
		p->cause = cause_of_error(p->phase, err);
	return !p->canceled && p->cause.class == CAUSE_INFRASTRUCTURE;
}

// The record has room for so many phases: those of a try that failed become one.
static int wait_for_next(struct run_prepare *p, int64_t ms, struct error *err)
{
	struct run *run = p->job->run;
	const int64_t start = run->phase_count ? run->phases[0].start_ms : wall_ms();
	fprintf(stderr, "%s: %s; tried again in %lld s\n", run->id, err->text,
		(long long)(ms / 1000));
	run->phase_count = 0;
	if (run_enter(run, RUN_PREPARING, "failed tries", err) < 0)
		return -1;
	run->phases[0].start_ms = start;
	run_explain(run, 0, "%s", err->text);
	return run_enter(run, RUN_PREPARING, NULL, err) == 0 && rest(p, ms) ? 0 : -1;
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
		if (wait_for_next(p, ms, err) < 0)
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
