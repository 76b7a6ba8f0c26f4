// SPDX-License-Identifier: Apache-2.0
//
// The synchroniser of a job's results (agent/data/outputs.h): started with the job, asked for the
// last round when that has ended and nothing of the node is held for it any more. What becomes of
// it is in upload.json; the job's own end never depends on it.
#include "agent/supervise/supervisor_internal.h"
#include "base/file.h"

#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SLOW_MS = 2000, ENDS_ITSELF_MS = 5000 };

static void stop_watching(struct supervisor *s)
{
	loop_remove(s->results_source);
	s->results_source = NULL;
	outputs_link_release(&s->results);
	s->results.fd = -1;
	if (s->waiting)
		loop_quit(s->loop, 0);
}

// It tells how far it is; that it has ended matters here, and what keeps it.
static void on_status(void *data, uint32_t events)
{
	struct supervisor *s = data;
	struct outputs_status status;
	struct error ignored;
	int rc;
	(void)events;
	while ((rc = outputs_receive(&s->results, true, &status, &ignored)) > 0)
		snprintf(s->results_trouble, sizeof(s->results_trouble), "%s", status.message);
	if (rc == 0 || rc == -1)
		stop_watching(s);
}

// The record gets it when the attempt is closed.
static void note(struct supervisor *s, const char *text)
{
	buffer_printf(&s->warnings, "results are not copied to %s: %s\n",
		s->request.settings.outputs.destination, text);
}

int supervisor_results_open(struct supervisor *s, struct error *err)
{
	const struct outputs_policy *policy = &s->request.settings.outputs;
	const struct outputs_options o = {
		.run_fd = s->run->fd,
		.run_id = s->run->id,
		.attempt = s->run->attempt,
		.destination = policy->destination,
		.policy = policy,
	};
	struct error reason;
	if (!policy->destination || !s->request.spec.entry_script)
		return 0;
	if (outputs_start(&o, &s->results, &reason) < 0) {
		s->results.fd = -1;
		note(s, reason.text);
		return 0;
	}
	s->results_source = loop_add_fd(s->loop, s->results.fd, EPOLLIN, on_status, s, err);
	return s->results_source ? 0 : -1;
}

static void on_time(void *data)
{
	struct supervisor *s = data;
	loop_quit(s->loop, 0);
}

// Whoever waits for the job sees why it does not end.
static void on_slow(void *data)
{
	struct supervisor *s = data;
	const char *trouble = s->results_trouble;
	cleanup_free char *text = xasprintf("results are still copied to %s%s%s",
		s->request.settings.outputs.destination, *trouble ? ": " : "", trouble);
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "event", "results");
	json_write_member(w, "message", text);
	json_write_close_object(w);
	control_broadcast(s->control, w);
}

// Requests are still answered; one to stop ends the wait. What is left then can be pushed later.
void supervisor_results_finish(struct supervisor *s)
{
	struct error err;
	if (s->results.fd < 0)
		return;
	// It keeps to its limit itself, and says what was left.
	const int64_t limit = (int64_t)s->request.settings.outputs.limit_ms + ENDS_ITSELF_MS;
	struct loop_source *timer = loop_add_timer(s->loop, limit, on_time, s, &err);
	struct loop_source *slow =
		timer ? loop_add_timer(s->loop, SLOW_MS, on_slow, s, &err) : NULL;
	s->waiting = true;
	if (!slow || outputs_finish(&s->results, &err) < 0 || loop_run(s->loop, &err) < 0)
		note(s, err.text);
	else if (s->results.fd >= 0)
		note(s, "not all of them arrived in time; see: stoker outputs push");
	s->waiting = false;
	loop_remove(slow);
	loop_remove(timer);
	// Not left behind: a further attempt has one of its own, with the same destination.
	if (s->results.fd >= 0) {
		syscall(SYS_pidfd_send_signal, s->results.process.pidfd, SIGKILL, NULL, 0);
		stop_watching(s);
	}
}
