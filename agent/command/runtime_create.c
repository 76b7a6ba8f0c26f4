// SPDX-License-Identifier: Apache-2.0
//
// `stoker runtime create` and `run`.
#include "agent/command/runtime_creation.h"

#include "base/file.h"

// The options of `create`, and with `run` those that it has more. OPTIONS_OK or OPTIONS_HELP.
static int parse_request(struct runtime_command *r, const struct options_usage *usage,
	struct create_request *q, bool run, int argc, char **argv, const char **id,
	struct error *err)
{
	struct option options[] = {
		{OPTION_STRING, 'b', "bundle", "DIR", "the bundle, instead of the current folder",
			&q->bundle},
		{OPTION_STRING, 0, "pid-file", "FILE", "write the process's id there",
			&q->pid_file},
		{OPTION_STRING, 0, "console-socket", "SOCKET", "send the terminal there",
			&q->console_socket},
		{OPTION_NUMBER, 0, "preserve-fds", "N", "pass descriptors from 3 on",
			&q->preserve_fds},
		{OPTION_FLAG, 0, "no-pivot", NULL, "refused", &q->no_pivot},
		{OPTION_FLAG, 0, "no-new-keyring", NULL, "accepted; a container always has its own",
			&q->no_new_keyring},
		{OPTION_FLAG, 'd', "detach", NULL, "do not wait for the end", &q->detach},
		{OPTION_FLAG, 0, "keep", NULL, "do not delete it at the end", &q->keep},
		{OPTION_END},
	};
	char **rest;
	int count;
	if (!run)
		options[array_size(options) - 3] = (struct option){OPTION_END};
	int rc = runtime_options(r, options, usage, false, argc, argv, &rest, &count, err);
	if (rc == OPTIONS_OK)
		*id = rest[0];
	return rc;
}

int runtime_verb_create(struct runtime_command *r, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "runtime create",
		.arguments = "ID",
		.summary = "Make a container of a bundle. Its program waits for `start`.",
		.least = 1,
		.most = 1,
	};
	struct create_request q = {.detach = true};
	const char *id;
	int rc = parse_request(r, &usage, &q, false, argc, argv, &id, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	cleanup_creation struct creation c;
	creation_init(&c, r, &q);
	if (creation_run(&c, id, err) < 0)
		return -1;
	container_detach(&c.container);
	return 0;
}

// Until its end; then nothing of it stays.
static int attend(struct creation *c, int *status, struct error *err)
{
	cleanup_fd int master = -1;
	if (c->spec.process.terminal &&
		(master = runtime_receive_terminal(c->console_ours, err)) < 0)
		return -1;
	if (runtime_start(c->r, &c->target, err) < 0)
		return -1;
	if (runtime_relay(c->container.init.pidfd, master, err) < 0)
		return -1;
	return container_wait(&c->container, status, err);
}

static int run_attended(struct creation *c, struct error *err)
{
	int status = 0;
	struct error second = {0};
	int rc = attend(c, &status, err);
	if (rc < 0)
		container_release(&c->container);
	if (rc == 0 && c->q->keep)
		return runtime_exit_status(status);
	if (runtime_destroy(c->r, &c->target, rc < 0 ? &second : err) < 0)
		return -1;
	return rc < 0 ? -1 : runtime_exit_status(status);
}

static int run_detached(struct creation *c, struct error *err)
{
	struct error second = {0};
	if (runtime_start(c->r, &c->target, err) < 0) {
		container_release(&c->container);
		runtime_destroy(c->r, &c->target, &second);
		return -1;
	}
	container_detach(&c->container);
	return 0;
}

int runtime_verb_run(struct runtime_command *r, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "runtime run",
		.arguments = "ID",
		.summary = "Make a container of a bundle, start it, wait for its end, delete it "
			   "and\nend with its exit status.",
		.least = 1,
		.most = 1,
	};
	struct create_request q = {0};
	const char *id;
	int rc = parse_request(r, &usage, &q, true, argc, argv, &id, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	cleanup_creation struct creation c;
	creation_init(&c, r, &q);
	if (creation_run(&c, id, err) < 0)
		return -1;
	return q.detach ? run_detached(&c, err) : run_attended(&c, err);
}
