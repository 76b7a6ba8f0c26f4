// SPDX-License-Identifier: Apache-2.0
#include "agent/command/attach.h"
#include "agent/command/command.h"
#include "agent/command/run_remove.h"
#include "agent/command/run_request.h"
#include "agent/job/other_runtime.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/runtime/rootfs.h"

#include <stdio.h>
#include <unistd.h>

static int choose_image(
	struct command *c, struct run_request *q, struct job_spec *s, struct error *err)
{
	if (!s->image)
		s->image = c->config.default_image;
	if (!s->image)
		return error_set(err, ERROR_INVALID,
			"no image: set custom_docker_image in the job, or default_image in the "
			"node's configuration");
	return oci_reference_parse(s->image, &q->reference, err);
}

// The layers are leased, the documents are not: `stoker rmi` may take those away before they are
// read. A second pull brings them back, or says as usual that the image is not here.
static int get_image(struct command *c, const struct command_pull *o, struct pull_result *pulled,
	struct store_layers *layers, struct arena *a, struct oci_config *config, struct error *err)
{
	struct oci_manifest manifest;
	for (bool again = false;; again = true) {
		if (command_pull_image(c, o, pulled, layers, err) < 0)
			return -1;
		if (store_image_load(c->store, &pulled->image, a, &manifest, config, err) == 0)
			return 0;
		if (again || err->kind != ERROR_NOT_FOUND)
			return -1;
		store_layers_release(layers);
		error_clear(err);
	}
}

// What is done before the job has a supervisor. A signal during the pull ends it.
static int prepare(struct command *c, const struct run_request *q, struct job *job,
	struct store_layers *layers, struct oci_config *config, struct arena *arena, int *canceled,
	enum cause_phase *phase, struct error *err)
{
	struct run *run = job->run;
	struct pull_result pulled;
	struct command_pull o = {
		.reference = &q->reference,
		.platform = q->platform ? &q->wanted : NULL,
		.policy = q->policy,
		.canceled = canceled,
	};
	*phase = CAUSE_CHECKING;
	if (job_check(job->spec, err) < 0)
		return -1;
	*phase = CAUSE_PULLING;
	if (run_enter(run, RUN_PREPARING, "pulling", err) < 0 ||
		command_layer_format(c, NULL, &o.format, err) < 0 ||
		get_image(c, &o, &pulled, layers, arena, config, err) < 0)
		return -1;
	run->image = pulled.image;
	*phase = CAUSE_PREPARING;
	if (run_enter(run, RUN_PREPARING, "preparing", err) < 0)
		return -1;
	return job_snapshot(job, err);
}

static int report(const struct run *run, const struct attach_result *r)
{
	if (streq(r->state, run_state_name(RUN_COMPLETED)))
		fprintf(stderr, "%s: Completed; results in %s\n", run->id, run->path);
	else
		fprintf(stderr, "%s: %s: %s; log in %s/user_logs/std_log.txt\n", run->id, r->state,
			r->message, run->path);
	return r->exit_status;
}

// The run ends here, before it had a supervisor.
static int end_early(
	struct run *run, enum cause_phase phase, int canceled, bool quiet, struct error *err)
{
	struct error second = {0};
	if (phase == CAUSE_PULLING && canceled) {
		struct cause cause = cause_canceled_early(canceled);
		if (run_end(run, RUN_CANCELED, &cause, 128 + canceled, err) < 0)
			return -1;
		if (!quiet)
			fprintf(stderr, "%s: Canceled: %s\n", run->id, run->cause.message);
		return 128 + canceled;
	}
	struct cause cause = cause_of_error(phase, err);
	run_end(run, RUN_FAILED, &cause, 1, &second);
	return -1;
}

// The container is described as for a start, in a run that is removed again.
static int print_config(struct command *c, const struct job *job, struct error *err)
{
	struct sandbox sandbox;
	struct error second = {0};
	cleanup_buffer struct buffer json = {0};
	const struct cause cause = {.class = CAUSE_USER, .code = "NotRun", .exit_code = -1};
	int rc = sandbox_open(&sandbox, job, &c->config.policy, err);
	if (rc == 0) {
		rc = other_runtime_config(&sandbox, &json, err);
		if (sandbox_close(&sandbox, NULL, rc < 0 ? &second : err) < 0)
			rc = -1;
	}
	if (run_end(job->run, RUN_CANCELED, &cause, 1, rc < 0 ? &second : err) < 0 ||
		run_remove(c->store, job->run->id, rc < 0 ? &second : err) < 0)
		rc = -1;
	if (rc < 0)
		return -1;
	return fwrite(json.data, 1, json.size, stdout) == json.size
		       ? 0
		       : error_set_errno(err, errno, "standard output");
}

static int execute(struct command *c, const struct run_request *q, struct job_spec *spec,
	struct run *run, struct error *err)
{
	cleanup_store_layers struct store_layers layers = {0};
	cleanup_arena struct arena arena = {0};
	struct oci_config config;
	enum cause_phase phase;
	int canceled = 0;
	bool foreground_input = q->image && !q->detach;
	struct job job = {
		.spec = spec,
		.run = run,
		.store = c->store,
		.image = &config,
		.layers = &layers,
		.stdin_fd = foreground_input ? STDIN_FILENO : -1,
		.listen_fd = -1,
	};
	if (prepare(c, q, &job, &layers, &config, &arena, &canceled, &phase, err) < 0)
		return end_early(run, phase, canceled, q->image != NULL, err);
	if (q->print_config)
		return print_config(c, &job, err);
	const struct supervise_settings settings = {.grace_ms = c->config.stop_grace_ms,
		.log_bytes = c->config.log_max_size,
		.log_keep_free = c->config.log_keep_free,
		.policy = c->config.policy};
	const struct attach attach = {
		.job = &job, .settings = &settings, .echo_fd = STDOUT_FILENO, .detach = q->detach};
	struct attach_result result;
	if (attach_run(&attach, &result, err) < 0)
		return -1;
	if (!result.ended || q->detach)
		return printf("%s\n", run->id) < 0 ? error_set_errno(err, errno, "standard output")
						   : 0;
	// A command's own end is its own matter; anything else needs a word.
	bool own = q->image && starts_with(result.code, "Script");
	return own ? result.exit_status : report(run, &result);
}

// What the configuration does not keep. It can wait: a failure is the next one's.
static void prune(struct command *c)
{
	const struct run_prune limits = {
		.keep = c->config.runs.keep,
		.by_age = c->config.runs.keep_for_ms != 0,
		.keep_for_ms = (int64_t)c->config.runs.keep_for_ms,
	};
	struct error ignored;
	uint64_t removed;
	if (limits.keep || limits.by_age)
		runs_prune(c->store, &limits, &removed, &ignored);
}

static int run_job(struct command *c, struct run_request *q, struct job_spec *s, struct error *err)
{
	cleanup_run struct run run = {0};
	if (command_open(c, err) < 0 || choose_image(c, q, s, err) < 0 ||
		job_secrets_read(s, err) < 0)
		return -1;
	if (!s->resources.disk)
		s->resources.disk = c->config.policy.disk;
	run_sweep(c->store);
	rootfs_sweep(c->store);
	prune(c);
	if (run_create(&run, c->store, s->experiment, q->image ? "job.json" : "job.yaml",
		    s->document.data ? s->document.data : "", s->document.size, err) < 0)
		return -1;
	if (!q->image && !q->print_config)
		fprintf(stderr, "%s: %s\n", run.id, run.path);
	return execute(c, q, s, &run, err);
}

int command_run(struct command *c, int argc, char **argv, struct error *err)
{
	__attribute__((cleanup(run_request_release))) struct run_request q = {0};
	cleanup_job_spec struct job_spec spec = {0};
	int rc = run_request_parse(c, &q, argc, argv, &spec, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	return run_job(c, &q, &spec, err);
}
