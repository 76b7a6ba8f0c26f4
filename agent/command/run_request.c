// SPDX-License-Identifier: Apache-2.0
#include "agent/command/run_request.h"

#include "agent/job/run.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/memory.h"
#include "base/text.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "run",
	.arguments = "JOB.yaml | --image REFERENCE [-- COMMAND…]",
	.summary = "Run a job, or one command in an image, and end with its exit status.\n"
		   "What it prints comes to standard output and into the run's directory. Killed\n"
		   "itself, it leaves the job running: see stoker ps, logs, wait and stop.",
	.more = "Examples:\n"
		"  stoker run job.yaml\n"
		"  stoker run --image python:3.12 -- python3 -c 'print(6 * 7)'\n"
		"  stoker run --image alpine --bind $PWD:/data:ro -- ls /data\n\n"
		"Without a command the image's own runs. job.yaml is described in job.yaml(5).",
	.least = 0,
	.most = -1,
};

void run_request_release(struct run_request *q)
{
	option_strings_release(&q->variables);
	option_strings_release(&q->binds);
	option_strings_release(&q->devices);
}

static int wrong_usage(struct command *c, struct error *err, const char *text)
{
	c->usage_error = true;
	return error_set(err, ERROR_INVALID, "%s; see: stoker run --help", text);
}

// -e K=V, or -e K: with the value it has here, if it has one.
static int add_variables(
	struct command *c, struct run_request *q, struct job_spec *s, struct error *err)
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

static int add_binds(
	struct command *c, struct run_request *q, struct job_spec *s, struct error *err)
{
	struct job_bind *binds = arena_array(&s->arena, struct job_bind, q->binds.count);
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

static bool parse_count(const char *text, uint64_t most, uint64_t *n)
{
	return parse_u64(text, n) && *n >= 1 && *n <= most;
}

static int add_limits(
	struct command *c, struct run_request *q, struct job_spec *s, struct error *err)
{
	struct job_resources *r = &s->resources;
	if (q->cpus && !job_cpus_parse(q->cpus, &r->cpus))
		return wrong_usage(c, err, "--cpus: expected a number over 0, such as 2.5");
	if (q->memory && (!parse_size(q->memory, &r->memory) || !r->memory))
		return wrong_usage(c, err, "--memory: expected a size over 0, such as 8g");
	if (q->disk && (!parse_size(q->disk, &r->disk) || !r->disk))
		return wrong_usage(c, err, "--disk: expected a size over 0, such as 20g");
	if (q->pids && !parse_count(q->pids, JOB_PIDS_MAX, &r->pids))
		return wrong_usage(c, err, "--pids-limit: expected a number over 0");
	if (q->gpus && !parse_count(q->gpus, JOB_DEVICES_MAX, &r->gpus))
		return wrong_usage(c, err, "--gpus: expected a number over 0");
	if (q->timeout && !parse_count(q->timeout, JOB_SECONDS_MAX, &s->max_seconds))
		return wrong_usage(c, err, "--timeout: expected a number of seconds over 0");
	return 0;
}

static int add_resources(
	struct command *c, struct run_request *q, struct job_spec *s, struct error *err)
{
	int network = q->network ? job_network_parse(q->network) : JOB_NETWORK_DEFAULT;
	if (network < 0)
		return wrong_usage(c, err, "--network: must be private, none or host");
	s->network = (enum job_network)network;
	for (size_t i = 0; i < q->devices.count; i++)
		if (!job_device_check(q->devices.items[i]))
			return wrong_usage(c, err,
				"--device: expected the name of a CDI device, vendor/class=name");
	s->resources.devices.items = arena_array(&s->arena, const char *, q->devices.count + 1);
	for (size_t i = 0; i < q->devices.count; i++)
		s->resources.devices.items[i] = q->devices.items[i];
	s->resources.devices.count = q->devices.count;
	return add_limits(c, q, s, err);
}

static int spec_of_command(struct command *c, struct run_request *q, char **rest, int count,
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
	if (add_variables(c, q, s, err) < 0 || add_binds(c, q, s, err) < 0 ||
		add_resources(c, q, s, err) < 0)
		return -1;
	return write_document(s, err);
}

static int spec_of_file(struct command *c, const struct run_request *q, char **rest, int count,
	struct job_spec *s, struct error *err)
{
	if (count != 1)
		return wrong_usage(c, err,
			count ? "more than one job file (a command needs --image)"
			      : "a job file or --image REFERENCE is missing");
	if (q->workdir || q->user || q->shm_size || q->variables.count || q->binds.count ||
		q->cpus || q->memory || q->pids || q->gpus || q->disk || q->timeout || q->network ||
		q->devices.count)
		return wrong_usage(c, err,
			"--env, --bind, --workdir, --user, --shm-size and what else limits a "
			"command go with --image; a job file has keys for them");
	return job_spec_load(s, rest[0], err);
}

static int parse_policy(struct command *c, struct run_request *q, struct error *err)
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

static int check_id(struct command *c, const char *id, struct error *err)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
	if (!id ||
		(strlen(id) < RUN_ID_MAX && !id[strspn(id, letters)] && *id && !strchr("-_.", *id)))
		return 0;
	return wrong_usage(
		c, err, "--id: letters, digits, '-', '_' and '.', with a letter or digit first");
}

int run_request_parse(struct command *c, struct run_request *q, int argc, char **argv,
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
		{OPTION_STRING, 0, "cpus", "N", "at most so much time of processors, 2.5",
			&q->cpus},
		{OPTION_STRING, 'm', "memory", "SIZE", "at most, 8g", &q->memory},
		{OPTION_STRING, 0, "disk", "SIZE", "at most, of all that it writes", &q->disk},
		{OPTION_STRING, 0, "pids-limit", "N", "processes and threads at most", &q->pids},
		{OPTION_STRING, 0, "gpus", "N", "so many free ones", &q->gpus},
		{OPTION_STRINGS, 0, "device", "NAME", "a CDI device, vendor/class=name",
			&q->devices},
		{OPTION_STRING, 0, "network", "KIND", "private, none or host", &q->network},
		{OPTION_STRING, 0, "timeout", "SECONDS", "stop it then", &q->timeout},
		{OPTION_FLAG, 0, "print-config", NULL,
			"show the container as an OCI config.json and run nothing",
			&q->print_config},
		{OPTION_FLAG, 'd', "detach", NULL, "print the run's id and leave it running",
			&q->detach},
		{OPTION_STRING, 0, "id", "ID", "of the run; refused if there is one already",
			&q->id},
		{OPTION_STRING, 0, "restore", "DIR",
			"begin with a copy of DIR/outputs in ./outputs", &q->restore},
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
	if (check_id(c, q->id, err) < 0 || parse_policy(c, q, err) < 0 ||
		(q->platform && oci_platform_parse(q->platform, &q->wanted, err) < 0))
		return -1;
	return q->image ? spec_of_command(c, q, rest, count, s, err)
			: spec_of_file(c, q, rest, count, s, err);
}
