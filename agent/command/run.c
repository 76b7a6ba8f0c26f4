// SPDX-License-Identifier: Apache-2.0
#include "agent/command/command.h"
#include "agent/job/job.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/runtime/rootfs.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct options_usage usage = {
	.verb = "run",
	.arguments = "JOB.yaml | --image REFERENCE [-- COMMAND…]",
	.summary = "Run a job, or one command in an image, and end with its exit status.\n"
		   "What it prints comes to standard output and into the run's directory.",
	.more = "Examples:\n"
		"  stoker run job.yaml\n"
		"  stoker run --image python:3.12 -- python3 -c 'print(6 * 7)'\n"
		"  stoker run --image alpine --bind $PWD:/data:ro -- ls /data\n\n"
		"Without a command the image's own runs. job.yaml is described in job.yaml(5).",
	.least = 0,
	.most = -1,
};

// What the command line says.
struct request {
	const char *image, *workdir, *user, *pull, *platform, *shm_size;
	struct option_strings variables, binds;
	enum pull_policy policy;
	struct oci_reference reference;
	struct oci_platform wanted;
};

static void request_release(struct request *q)
{
	option_strings_release(&q->variables);
	option_strings_release(&q->binds);
}

static int wrong_usage(struct command *c, struct error *err, const char *text)
{
	c->usage_error = true;
	return error_set(err, ERROR_INVALID, "%s; see: stoker run --help", text);
}

// -e K=V, or -e K: with the value it has here, if it has one.
static int add_variables(
	struct command *c, struct request *q, struct job_spec *s, struct error *err)
{
	s->variables.items = arena_array(&s->arena, struct json_pair, q->variables.count);
	for (size_t i = 0; i < q->variables.count; i++) {
		const char *text = q->variables.items[i], *equals = strchr(text, '=');
		size_t n = equals ? (size_t)(equals - text) : strlen(text);
		const char *key = arena_strndup(&s->arena, text, n);
		const char *value = equals ? equals + 1 : getenv(key);
		if (!n)
			return wrong_usage(c, err, "--env: expected NAME=VALUE or NAME");
		if (value)
			s->variables.items[s->variables.count++] = (struct json_pair){key, value};
	}
	return 0;
}

// SRC:DST[:ro|rw]
static int parse_bind(struct command *c, struct job_spec *s, const char *text,
	struct job_bind *bind, struct error *err)
{
	char *copy = arena_strdup(&s->arena, text), *target = strchr(copy, ':');
	if (!target || target == copy)
		return wrong_usage(c, err, "--bind: expected SOURCE:TARGET or SOURCE:TARGET:ro");
	*target++ = '\0';
	char *mode = strchr(target, ':');
	if (mode)
		*mode++ = '\0';
	if (mode && !streq(mode, "ro") && !streq(mode, "rw"))
		return wrong_usage(c, err, "--bind: behind the target only ro or rw may stand");
	if (*target != '/')
		return wrong_usage(c, err, "--bind: the target must be an absolute path");
	cleanup_free char *source = path_absolute(copy, err);
	if (!source)
		return -1;
	*bind = (struct job_bind){
		.source = arena_strdup(&s->arena, source),
		.target = target,
		.read_only = mode && streq(mode, "ro"),
	};
	return 0;
}

static int add_binds(struct command *c, struct request *q, struct job_spec *s, struct error *err)
{
	struct job_bind *binds =
		arena_array(&s->arena, struct job_bind, q->binds.count);
	for (size_t i = 0; i < q->binds.count; i++)
		if (parse_bind(c, s, q->binds.items[i], &binds[i], err) < 0)
			return -1;
	s->binds = binds;
	s->bind_count = q->binds.count;
	return 0;
}

// The record of a command, in place of the job file. Without the variables: secrets go by that way.
static int write_document(struct job_spec *s, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	json_write_open_object(w);
	json_write_member(w, "image", s->image);
	json_write_key(w, "command");
	json_write_open_array(w);
	for (size_t i = 0; s->command && s->command[i]; i++) {
		cleanup_free char *argument = xstrdup(s->command[i]);
		text_flatten(argument);
		json_write_string(w, argument);
	}
	json_write_close_array(w);
	json_write_close_object(w);
	return json_writer_finish(w, &s->document, err);
}

static int spec_of_command(struct command *c, struct request *q, char **rest, int count,
	struct job_spec *s, struct error *err)
{
	s->experiment = "run";
	s->image = q->image;
	if (count) { // `rest` is not ended by NULL
		const char **command = arena_array(&s->arena, const char *, (size_t)count + 1);
		for (int i = 0; i < count; i++)
			command[i] = rest[i];
		s->command = command;
	}
	s->working_directory = q->workdir;
	s->user = q->user;
	if (q->shm_size && (!parse_size(q->shm_size, &s->shm_size) || !s->shm_size))
		return wrong_usage(c, err, "--shm-size: expected a size over 0, such as 2g");
	if (q->workdir && *q->workdir != '/')
		return wrong_usage(c, err, "--workdir: must be an absolute path");
	if (add_variables(c, q, s, err) < 0 || add_binds(c, q, s, err) < 0)
		return -1;
	return write_document(s, err);
}

static int spec_of_file(struct command *c, const struct request *q, char **rest, int count,
	struct job_spec *s, struct error *err)
{
	if (count != 1)
		return wrong_usage(c, err,
			count ? "more than one job file (a command needs --image)"
			      : "a job file or --image REFERENCE is missing");
	if (q->workdir || q->user || q->shm_size || q->variables.count || q->binds.count)
		return wrong_usage(c, err,
			"--env, --bind, --workdir, --user and --shm-size go with --image; a job "
			"file has keys for them");
	return job_spec_load(s, rest[0], err);
}

static int parse_policy(struct command *c, struct request *q, struct error *err)
{
	static const struct {
		const char *name;
		enum pull_policy policy;
	} names[] = {{"missing", PULL_MISSING}, {"always", PULL_ALWAYS}, {"never", PULL_NEVER}};
	for (size_t i = 0; i < array_size(names); i++) {
		if (!q->pull || streq(q->pull, names[i].name)) {
			q->policy = names[i].policy;
			return 0;
		}
	}
	return wrong_usage(c, err, "--pull: must be missing, always or never");
}

static int parse_request(struct command *c, struct request *q, int argc, char **argv,
	struct job_spec *s, struct error *err)
{
	const struct option options[] = {
		{OPTION_STRING, 0, "image", "REFERENCE", "run a command in this image", &q->image},
		{OPTION_STRINGS, 'e', "env", "NAME[=VALUE]", "set a variable", &q->variables},
		{OPTION_STRINGS, 'v', "bind", "SRC:DST[:ro]", "mount a folder or file of the node",
			&q->binds},
		{OPTION_STRING, 'w', "workdir", "DIR", "instead of the image's", &q->workdir},
		{OPTION_STRING, 'u', "user", "USER[:GROUP]", "instead of the image's", &q->user},
		{OPTION_STRING, 0, "shm-size", "SIZE", "of /dev/shm, 64m if not given",
			&q->shm_size},
		{OPTION_STRING, 0, "pull", "WHEN", "missing (if not given), always or never",
			&q->pull},
		{OPTION_STRING, 0, "platform", "OS/ARCH", "instead of this machine's",
			&q->platform},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, true, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc;
	if (parse_policy(c, q, err) < 0 ||
		(q->platform && oci_platform_parse(q->platform, &q->wanted, err) < 0))
		return -1;
	return q->image ? spec_of_command(c, q, rest, count, s, err)
			: spec_of_file(c, q, rest, count, s, err);
}

static int choose_image(struct command *c, struct request *q, struct job_spec *s, struct error *err)
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

static int execute(struct command *c, const struct request *q, const struct job_spec *s,
	struct run *run, struct watch_result *result, enum cause_phase *phase, struct error *err)
{
	cleanup_store_layers struct store_layers layers = {0};
	cleanup_arena struct arena arena = {0};
	struct oci_config config;
	struct pull_result pulled;
	struct command_pull o = {
		.reference = &q->reference,
		.platform = q->platform ? &q->wanted : NULL,
		.policy = q->policy,
		.canceled = &result->canceled,
	};
	*phase = CAUSE_CHECKING;
	if (job_check(s, err) < 0)
		return -1;
	*phase = CAUSE_PULLING;
	if (run_enter(run, RUN_PREPARING, "pulling", err) < 0 ||
		command_layer_format(c, NULL, &o.format, err) < 0 ||
		get_image(c, &o, &pulled, &layers, &arena, &config, err) < 0)
		return -1;
	run->image = pulled.image;
	const struct job job = {
		.spec = s,
		.run = run,
		.store = c->store,
		.image = &config,
		.layers = &layers,
		.stdin_fd = s->entry_script ? -1 : STDIN_FILENO,
		.echo_fd = STDOUT_FILENO,
	};
	*phase = CAUSE_PREPARING;
	if (run_enter(run, RUN_PREPARING, "preparing", err) < 0)
		return -1;
	return job_execute(&job, result, phase, err);
}

static int exit_status(const struct watch_result *r)
{
	int status = WIFSIGNALED(r->status) ? 128 + WTERMSIG(r->status) : WEXITSTATUS(r->status);
	return status == 0 && r->canceled ? 128 + r->canceled : status;
}

static void report(const struct run *run)
{
	if (run->state == RUN_COMPLETED)
		fprintf(stderr, "%s: Completed; results in %s\n", run->id, run->path);
	else
		fprintf(stderr, "%s: %s: %s; log in %s/user_logs/std_log.txt\n", run->id,
			run_state_name(run->state), run->cause.message, run->path);
}

// The run ends with the script's end, or with an error before or beside it.
static int conclude(struct run *run, int rc, enum cause_phase phase, const struct watch_result *r,
	bool quiet, struct error *err)
{
	struct error second = {0};
	if (rc < 0 && phase == CAUSE_PULLING && r->canceled) {
		struct cause cause = cause_canceled_early(r->canceled);
		if (run_end(run, RUN_CANCELED, &cause, err) < 0)
			return -1;
		if (!quiet)
			fprintf(stderr, "%s: Canceled: %s\n", run->id, run->cause.message);
		return 128 + r->canceled;
	}
	if (rc < 0) {
		struct cause cause = cause_of_error(phase, err);
		run_end(run, RUN_FAILED, &cause, &second);
		return -1;
	}
	struct cause cause =
		r->canceled ? cause_canceled(r->canceled, r->status) : cause_of_status(r->status);
	enum run_state state = r->canceled	      ? RUN_CANCELED
			       : cause.exit_code == 0 ? RUN_COMPLETED
						      : RUN_FAILED;
	if (run_end(run, state, &cause, err) < 0)
		return -1;
	if (!quiet)
		report(run);
	return exit_status(r);
}

static int run_job(struct command *c, struct request *q, struct job_spec *s, struct error *err)
{
	cleanup_run struct run run = {0};
	struct watch_result result = {0};
	enum cause_phase phase;
	if (command_open(c, err) < 0 || choose_image(c, q, s, err) < 0)
		return -1;
	run_sweep(c->store);
	rootfs_sweep(c->store);
	if (run_create(&run, c->store, s->experiment, q->image ? "job.json" : "job.yaml",
		    s->document.data ? s->document.data : "", s->document.size, err) < 0)
		return -1;
	if (!q->image)
		fprintf(stderr, "%s: %s\n", run.id, run.path);
	int rc = execute(c, q, s, &run, &result, &phase, err);
	return conclude(&run, rc, phase, &result, q->image != NULL, err);
}

int command_run(struct command *c, int argc, char **argv, struct error *err)
{
	__attribute__((cleanup(request_release))) struct request q = {0};
	cleanup_job_spec struct job_spec spec = {0};
	int rc = parse_request(c, &q, argc, argv, &spec, err);
	if (rc != 0)
		return rc == OPTIONS_HELP ? 0 : -1;
	return run_job(c, &q, &spec, err);
}
