// SPDX-License-Identifier: Apache-2.0
//
// `stoker runtime start`, `state`, `kill`, `delete` and `list`: what is done to a container that
// exists.
#include "agent/command/runtime.h"
#include "agent/job/signal_name.h"

#include "base/file.h"
#include "base/json_write.h"
#include "base/text.h"

#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DESTROY_MS = 10000 };

// What waits in the container opens the FIFO for writing as soon as we read, and closes it by
// becoming the program, or writes why it could not.
static int let_go(struct runtime_target *t, struct error *err)
{
	struct error reason;
	cleanup_fd int pidfd = runtime_state_pidfd(&t->state, err);
	if (pidfd < 0)
		return -1;
	cleanup_fd int fifo = openat(
		t->folder, RUNTIME_START_FIFO, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (fifo < 0)
		return error_set_errno(err, errno, "open the FIFO %s", RUNTIME_START_FIFO);
	struct pollfd polls[] = {{.fd = fifo, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};
	while (poll(polls, array_size(polls), -1) < 0)
		if (errno != EINTR)
			return error_set_errno(err, errno, "poll");
	ssize_t n = 0;
	if (polls[0].revents)
		n = read(fifo, &reason, sizeof(reason));
	if (n == sizeof(reason)) {
		reason.text[sizeof(reason.text) - 1] = '\0';
		*err = reason;
		return -1;
	}
	if (n != 0)
		return error_set_errno(err, n < 0 ? errno : EIO, "read from what waits");
	// It may have ended at once; the FIFO tells whether it had become the program.
	if (!polls[0].revents)
		return error_set(err, ERROR_SYSTEM, "what waited in the container has ended");
	return 0;
}

static int start_locked(struct runtime_target *t, struct error *err)
{
	if (runtime_state_load(t->folder, t->state.id, &t->arena, &t->state, err) < 0 ||
		runtime_expect(&t->state, 1U << RUNTIME_CREATED, "start", err) < 0)
		return -1;
	if (let_go(t, err) < 0) {
		runtime_use_engines_words(err);
		return -1;
	}
	t->state.status = RUNTIME_RUNNING;
	return runtime_state_save(t->folder, &t->state, err);
}

int runtime_start(struct runtime_command *r, struct runtime_target *t, struct error *err)
{
	cleanup_buffer struct buffer document = {0}, warnings = {0};
	struct runtime_spec spec;
	if (runtime_load_spec(t, &spec, err) < 0)
		return -1;
	if (!spec.has_process)
		return error_set(err, ERROR_INVALID,
			"start: the specification of \"%s\" has no process", t->state.id);
	if (runtime_state_lock(t->folder, err) < 0)
		return -1;
	int rc = start_locked(t, err);
	runtime_state_unlock(t->folder);
	if (rc < 0)
		return -1;
	if (runtime_state_document(
		    &t->state, RUNTIME_RUNNING, t->state.pid, false, &document, err) < 0)
		return -1;
	runtime_hooks_run_all(&spec, RUNTIME_HOOK_POSTSTART, document.data, &warnings);
	runtime_warn(r, &warnings);
	return 0;
}

int runtime_verb_start(struct runtime_command *r, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "runtime start",
		.arguments = "ID",
		.summary = "Start the program of a container that `create` has made.",
		.least = 1,
		.most = 1,
	};
	cleanup_runtime_target struct runtime_target t = {.folder = -1};
	char **rest;
	int count;
	int rc = runtime_options(r, NULL, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (runtime_open(r, rest[0], &t, err) < 0)
		return -1;
	return runtime_start(r, &t, err);
}

int runtime_verb_state(struct runtime_command *r, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "runtime state",
		.arguments = "ID",
		.summary = "Show a container's state as JSON.",
		.least = 1,
		.most = 1,
	};
	cleanup_runtime_target struct runtime_target t = {.folder = -1};
	cleanup_buffer struct buffer document = {0};
	char **rest;
	int count;
	int rc = runtime_options(r, NULL, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (runtime_open(r, rest[0], &t, err) < 0)
		return -1;
	enum runtime_status status = runtime_state_status(&t.state);
	bool lives = status == RUNTIME_CREATED || status == RUNTIME_RUNNING;
	if (runtime_state_document(
		    &t.state, status, lives ? t.state.pid : 0, true, &document, err) < 0)
		return -1;
	fputs(document.data, stdout);
	return 0;
}

static int send_signal(int pidfd, int signo, struct error *err)
{
	if (syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0) < 0 && errno != ESRCH)
		return error_set_errno(err, errno, "send signal %d", signo);
	return 0;
}

// To all in its control group, whatever became of its process.
static int signal_all(const struct runtime_target *t, int signo, struct error *err)
{
	cleanup_arena struct arena a = {0};
	pid_t *pids;
	size_t count;
	if (!t->state.cgroup)
		return error_set(err, ERROR_INVALID,
			"--all: the container \"%s\" has no control group", t->state.id);
	cleanup_cgroup struct cgroup *group = cgroup_open(t->state.cgroup, err);
	if (!group) {
		if (err->kind != ERROR_NOT_FOUND)
			return -1;
		error_clear(err);
		return 0;
	}
	// None may start a further one between the reading and the signal.
	struct error ignored;
	bool frozen = signo == SIGKILL && cgroup_freeze(group, true, &ignored) == 0;
	int rc = cgroup_processes(group, &a, &pids, &count, err);
	for (size_t i = 0; rc == 0 && i < count; i++)
		kill(pids[i], signo);
	if (frozen)
		cgroup_freeze(group, false, &ignored);
	return rc;
}

int runtime_verb_kill(struct runtime_command *r, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "runtime kill",
		.arguments = "ID [SIGNAL]",
		.summary = "Send a signal (TERM if not given) to a container's process.",
		.least = 1,
		.most = 2,
	};
	bool all = false;
	const struct option options[] = {
		{OPTION_FLAG, 'a', "all", NULL, "to all processes in its control group", &all},
		{OPTION_END},
	};
	cleanup_runtime_target struct runtime_target t = {.folder = -1};
	char **rest;
	int count, signo;
	int rc = runtime_options(r, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	signo = signal_parse(count > 1 ? rest[1] : "TERM");
	if (signo < 0)
		return error_set(err, ERROR_INVALID, "there is no signal \"%s\"", rest[1]);
	if (runtime_open(r, rest[0], &t, err) < 0)
		return -1;
	if (all)
		return signal_all(&t, signo, err);
	if (runtime_expect(&t.state, 1U << RUNTIME_CREATED | 1U << RUNTIME_RUNNING, "kill", err) <
		0)
		return -1;
	cleanup_fd int pidfd = runtime_state_pidfd(&t.state, err);
	return pidfd < 0 ? -1 : send_signal(pidfd, signo, err);
}

static int destroy_cgroup(const struct runtime_target *t, struct error *err)
{
	if (!t->state.cgroup)
		return 0;
	cleanup_cgroup struct cgroup *group = cgroup_open(t->state.cgroup, err);
	if (group)
		return cgroup_destroy(group, DESTROY_MS, err);
	if (err->kind != ERROR_NOT_FOUND)
		return -1;
	error_clear(err);
	return 0;
}

int runtime_destroy(struct runtime_command *r, struct runtime_target *t, struct error *err)
{
	cleanup_buffer struct buffer document = {0}, warnings = {0};
	struct runtime_spec spec = {0};
	// A broken `create` has left no document, and no hook had run.
	if (runtime_load_spec(t, &spec, err) < 0) {
		if (err->kind != ERROR_NOT_FOUND)
			return -1;
		error_clear(err);
	}
	if (destroy_cgroup(t, err) < 0 || runtime_state_remove(r->root, t->state.id, err) < 0)
		return -1;
	if (runtime_state_document(&t->state, RUNTIME_STOPPED, 0, false, &document, err) < 0)
		return -1;
	runtime_hooks_run_all(&spec, RUNTIME_HOOK_POSTSTOP, document.data, &warnings);
	runtime_warn(r, &warnings);
	return 0;
}

static int kill_and_wait(const struct runtime_target *t, struct error *err)
{
	struct error ended;
	cleanup_fd int pidfd = runtime_state_pidfd(&t->state, &ended);
	if (pidfd < 0)
		return 0;
	if (send_signal(pidfd, SIGKILL, err) < 0)
		return -1;
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int n;
	while ((n = poll(&p, 1, DESTROY_MS)) < 0 && errno == EINTR)
		;
	if (n == 0)
		return error_set(err, ERROR_LIMIT, "process %d does not end", (int)t->state.pid);
	return 0;
}

static int delete_locked(
	struct runtime_command *r, struct runtime_target *t, bool force, struct error *err)
{
	if (runtime_state_load(t->folder, t->state.id, &t->arena, &t->state, err) < 0)
		return -1;
	if (force) {
		if (kill_and_wait(t, err) < 0)
			return -1;
	} else if (runtime_expect(&t->state, 1U << RUNTIME_STOPPED, "delete", err) < 0) {
		return -1;
	}
	return runtime_destroy(r, t, err);
}

int runtime_verb_delete(struct runtime_command *r, int argc, char **argv, struct error *err)
{
	static const struct options_usage usage = {
		.verb = "runtime delete",
		.arguments = "ID",
		.summary = "Remove what is left of a container that has stopped.",
		.least = 1,
		.most = 1,
	};
	bool force = false;
	const struct option options[] = {
		{OPTION_FLAG, 'f', "force", NULL, "kill it first; one that is not there is fine",
			&force},
		{OPTION_END},
	};
	cleanup_runtime_target struct runtime_target t = {.folder = -1};
	char **rest;
	int count;
	int rc = runtime_options(r, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (runtime_open(r, rest[0], &t, err) < 0 || runtime_state_lock(t.folder, err) < 0) {
		if (!force || err->kind != ERROR_NOT_FOUND)
			return -1;
		error_clear(err);
		return 0;
	}
	return delete_locked(r, &t, force, err);
}
