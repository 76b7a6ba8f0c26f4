// SPDX-License-Identifier: Apache-2.0
//
// max_retries: from one attempt to the next. The control socket, the lock of the run and whoever
// waits stay; folders, container and record are new.
#include "agent/job/run_document.h"
#include "agent/supervise/supervisor_internal.h"
#include "base/file.h"

#include <signal.h>
#include <stdio.h>

enum { WAIT_MS = 1000, WAIT_MS_MAX = 60 * 1000 };

// Who asked for the end while the results of a failed attempt were copied wants no further one.
static bool is_wanted(const struct supervisor *s)
{
	bool stopped = s->ending.stop != STOP_NONE && s->ending.stop <= STOP_KILL;
	return !stopped && s->end.state == RUN_FAILED &&
	       s->run->attempt <= s->request.spec.max_retries && cause_is_retried(&s->end.cause);
}

static void announce(struct supervisor *s)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "event", "attempt");
	json_write_member_int(w, "attempt", s->run->attempt);
	json_write_member(w, "message", s->end.cause.message);
	json_write_close_object(w);
	control_broadcast(s->control, w);
}

static void on_time(void *data)
{
	struct supervisor *s = data;
	loop_quit(s->loop, 0);
}

// A second, two, four …: what failed for want of something may find it by then. -1: canceled.
static int rest(struct supervisor *s, struct error *err)
{
	int64_t ms = WAIT_MS;
	for (unsigned i = 2; i < s->run->attempt && ms < WAIT_MS_MAX; i++)
		ms *= 2;
	s->ending = (struct ending){0};
	struct loop_source *timer =
		loop_add_timer(s->loop, ms < WAIT_MS_MAX ? ms : WAIT_MS_MAX, on_time, s, err);
	s->waiting = true;
	int rc = timer ? loop_run(s->loop, err) : -1;
	s->waiting = false;
	loop_remove(timer);
	if (rc < 0 || s->ending.stop == STOP_NONE)
		return rc < 0 ? -1 : 0;
	s->end = (struct end){RUN_CANCELED,
		cause_of_stop(s->ending.stop, s->ending.signo, s->ending.detail, 0),
		128 + s->ending.signo};
	return error_set(err, ERROR_DENIED, "canceled between two attempts");
}

static int begin(struct supervisor *s, struct error *err)
{
	buffer_clear(&s->warnings);
	s->trouble = (struct cause){0};
	if (run_retry(s->run, s->store, err) < 0)
		return -1;
	announce(s);
	if (run_enter(s->run, RUN_PREPARING, "waiting", err) < 0 || rest(s, err) < 0 ||
		run_enter(s->run, RUN_PREPARING, "preparing", err) < 0)
		return -1;
	s->job.run = s->run;
	return job_snapshot_again(&s->job, err);
}

bool supervisor_retry(struct supervisor *s)
{
	struct error err = {0};
	if (!is_wanted(s) || !s->loop || !s->control ||
		run_end_attempt(s->run, s->end.state, &s->end.cause, s->end.exit_status, &err) < 0)
		return false;
	if (begin(s, &err) == 0)
		return true;
	if (s->end.state == RUN_FAILED)
		s->end = (struct end){RUN_FAILED, cause_of_error(CAUSE_PREPARING, &err), 1};
	return false;
}
