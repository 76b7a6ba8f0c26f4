// SPDX-License-Identifier: Apache-2.0
#include "agent/command/run_ask.h"

#include "agent/command/run_wait.h"
#include "agent/job/run.h"
#include "agent/supervise/client.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TRIES = 100, AGAIN_MS = 20 };

static struct json_writer *request_of(const struct run_ask *ask)
{
	if (ask->what == RUN_ASK_STOP)
		return supervise_stop_request("stop", 0, ask->grace_ms);
	if (ask->what == RUN_ASK_KILL)
		return supervise_request_of("kill", "kill");
	return supervise_signal_request(ask->signo);
}

static int ended(const struct run_found *run, const struct run_ask *ask, struct error *err)
{
	if (ask->what != RUN_ASK_SIGNAL)
		return 0;
	return error_set(err, ERROR_NOT_FOUND, "run %s has ended", run->id);
}

// 1: it is asked. 0: there is nobody (any more, or yet).
static int ask_supervisor(
	struct store *s, const struct run_found *run, const struct run_ask *ask, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct error reason;
	cleanup_fd int fd = supervise_connect(s, run->id, &reason);
	if (fd >= 0 && supervise_call(fd, request_of(ask), &a, NULL, &reason) == 0)
		return 1;
	if (reason.kind == ERROR_NOT_FOUND || reason.kind == ERROR_UNAVAILABLE)
		return 0;
	*err = reason;
	return -1;
}

// Before a run has a supervisor it is in the hands of `stoker run`, which cancels it when it is
// told to end.
static bool ask_client(const struct run_found *run, const struct run_ask *ask)
{
	cleanup_arena struct arena a = {0};
	struct run_summary summary;
	struct error ignored;
	if (ask->what == RUN_ASK_SIGNAL || run_document_read(run->fd, &a, &summary, &ignored) < 0 ||
		summary.supervisor)
		return false;
	cleanup_fd int pidfd = process_find((pid_t)summary.client, (uint64_t)summary.client_start);
	return pidfd >= 0 && syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0) == 0;
}

int run_ask(
	struct store *s, const struct run_found *run, const struct run_ask *ask, struct error *err)
{
	// It may be between two owners, or at its last breath.
	for (int i = 0; i < TRIES; i++) {
		if (!run_is_active(s, run->id))
			return ended(run, ask, err);
		int rc = ask_supervisor(s, run, ask, err);
		if (rc != 0)
			return rc < 0 ? -1 : 0;
		if (ask_client(run, ask))
			return 0;
		sleep_ms(AGAIN_MS);
		run_sweep(s);
	}
	return error_set(err, ERROR_UNAVAILABLE,
		"run %s is being prepared or ended, and nobody answers", run->id);
}

static int ask_each(struct store *s, struct run_found *runs, int count, const struct run_ask *ask,
	struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct run_summary end;
	for (int i = 0; i < count; i++)
		if (run_ask(s, &runs[i], ask, err) < 0)
			return -1;
	for (int i = 0; i < count && ask->what != RUN_ASK_SIGNAL; i++) {
		if (run_wait(s, &runs[i], &a, &end, err) < 0)
			return -1;
		fprintf(stderr, "%s: %s%s%s\n", runs[i].id, end.state, end.message ? ": " : "",
			end.message ? end.message : "");
	}
	return 0;
}

int run_ask_all(
	struct store *s, char **names, int count, const struct run_ask *ask, struct error *err)
{
	cleanup_free struct run_found *runs = xcalloc((size_t)count + 1, sizeof(*runs));
	int found = 0, rc = 0;
	while (rc == 0 && found < count) {
		rc = run_find(s, names[found], &runs[found], err);
		found += rc == 0;
	}
	if (rc == 0)
		rc = ask_each(s, runs, count, ask, err);
	for (int i = 0; i < found; i++)
		run_found_release(&runs[i]);
	return rc;
}
