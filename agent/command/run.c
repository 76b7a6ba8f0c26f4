// SPDX-License-Identifier: Apache-2.0
#include "agent/command/attach.h"
#include "agent/command/command.h"
#include "agent/command/run_inputs.h"
#include "agent/command/run_prepare.h"
#include "agent/command/run_remove.h"
#include "agent/command/run_request.h"
#include "agent/data/outputs.h"
#include "agent/job/git.h"
#include "agent/job/other_runtime.h"
#include "base/file.h"
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

// Results that did not arrive are no failure of the job, but whoever waits for them must know.
static void report_results(const struct run *run)
{
	struct outputs_status s;
	struct error err;
	if (outputs_status_read(run->fd, &s, &err) <= 0 ||
		(s.state != OUTPUTS_FAILED && s.state != OUTPUTS_INCOMPLETE))
		return;
	fprintf(stderr,
		"%s: results are not all copied: %s; finish it by: stoker outputs push %s\n",
		run->id, s.message, run->id);
}

static int report(const struct run *run, const struct attach_result *r)
{
	report_results(run);
	if (streq(r->state, run_state_name(RUN_COMPLETED)))
		fprintf(stderr, "%s: Completed; results in %s\n", run->id, run->path);
	else
		fprintf(stderr, "%s: %s: %s; log in %s/user_logs/std_log.txt\n", run->id, r->state,
			r->message, run->path);
	return r->exit_status;
}

// The run ends here, before it had a supervisor.
static int end_early(const struct run_prepare *p, bool quiet, struct error *err)
{
	struct error second = {0};
	struct run *run = p->job->run;
	if (p->canceled) {
		struct cause cause = cause_canceled_early(p->canceled);
		if (run_end(run, RUN_CANCELED, &cause, 128 + p->canceled, err) < 0)
			return -1;
		if (!quiet)
			fprintf(stderr, "%s: Canceled: %s\n", run->id, run->cause.message);
		return 128 + p->canceled;
	}
	struct cause cause = p->cause.code ? p->cause : cause_of_error(p->phase, err);
	run_end(run, RUN_FAILED, &cause, 1, &second);
	return -1;
}

static int describe(
	struct command *c, const struct job *job, struct buffer *json, struct error *err)
{
	struct sandbox sandbox;
	struct error second = {0};
	if (sandbox_open(&sandbox, job, &c->config.policy, err) < 0)
		return -1;
	int rc = other_runtime_config(&sandbox, json, err);
	if (sandbox_close(&sandbox, NULL, rc < 0 ? &second : err) < 0)
		rc = -1;
	return rc;
}

// The container is described as for a start, in a run that is removed again.
static int print_config(struct command *c, struct job *job, struct error *err)
{
	struct error second = {0};
	cleanup_buffer struct buffer json = {0};
	const struct cause cause = {.class = CAUSE_USER, .code = "NotRun", .exit_code = -1};
	struct data_mounts *inputs = NULL;
	int rc = run_inputs_attach(c, job, &inputs, err);
	job->inputs = inputs;
	if (rc == 0)
		rc = describe(c, job, &json, err);
	run_inputs_detach(c, job, inputs);
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
	bool foreground_input = q->image && !q->detach;
	struct job job = {
		.spec = spec,
		.run = run,
		.store = c->store,
		.stdin_fd = foreground_input ? STDIN_FILENO : -1,
		.listen_fd = -1,
	};
	__attribute__((cleanup(run_prepare_release))) struct run_prepare prepared = {
		.command = c, .request = q, .job = &job};
	if (run_prepare(&prepared, err) < 0)
		return end_early(&prepared, q->image != NULL, err);
	if (q->print_config)
		return print_config(c, &job, err);
	struct supervise_settings settings = {.grace_ms = c->config.stop_grace_ms,
		.log_bytes = c->config.log_max_size,
		.log_keep_free = c->config.log_keep_free,
		.policy = c->config.policy,
		.data = c->config.data,
		.outputs = c->config.outputs};
	if (spec->output_destination)
		settings.outputs.destination = spec->output_destination;
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

// What another run, or this one on another node, has left.
static int restore(const struct run *run, const char *folder, struct error *err)
{
	cleanup_fd int from = directory_open(AT_FDCWD, folder, err);
	return from < 0 ? -1 : outputs_restore(from, run->fd, err);
}

// Made, with what it begins with. One without is no run: it would begin from nothing.
static int make_run(const struct run_request *q, struct command *c, const struct job_spec *s,
	struct run *run, struct error *err)
{
	struct error second;
	const char *document = q->image ? "job.json" : "job.yaml";
	if (run_create(run, c->store, s->experiment, document,
		    s->document.data ? s->document.data : "", s->document.size, err) < 0)
		return -1;
	if (!q->restore || restore(run, q->restore, err) == 0)
		return 0;
	const struct cause cause = cause_of_error(CAUSE_PREPARING, err);
	run_end(run, RUN_FAILED, &cause, 1, &second);
	return error_context(err, "--restore %s", q->restore);
}

static int run_job(struct command *c, struct run_request *q, struct job_spec *s, struct error *err)
{
	cleanup_run struct run run = {.spec = s};
	if (command_open(c, err) < 0 || choose_image(c, q, s, err) < 0 ||
		job_secrets_read(s, err) < 0)
		return -1;
	if (s->source_directory)
		s->properties = git_properties(&s->arena, s->source_directory);
	if (!s->resources.disk)
		s->resources.disk = c->config.policy.disk;
	run_sweep(c->store);
	rootfs_sweep(c->store);
	prune(c);
	run_prepare_hold_signals();
	if (q->id)
		snprintf(run.id, sizeof(run.id), "%s", q->id);
	if (make_run(q, c, s, &run, err) < 0)
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
