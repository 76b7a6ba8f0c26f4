// SPDX-License-Identifier: Apache-2.0
#include "agent/data/mount_watch.h"

#include "base/file.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STRIKES = 2, LIMIT_MS_MIN = 1000 };

struct mount_watch {
	struct data_mount *m;
	struct loop *loop;
	struct loop_source *helper, *log, *timer, *probe_end;
	struct process probe; // pid 0: none under way
	int64_t interval_ms, limit_ms;
	unsigned strikes;
	bool told;
	mount_died_fn *died;
	void *data;
};

static void tell(struct mount_watch *w, enum data_failure failure, const char *text)
{
	w->m->kind->abort(w->m);
	w->m->failed = true;
	if (w->told)
		return;
	w->told = true;
	w->died(w->data, w->m, failure, text);
}

// ---- the helper

static void on_log(void *data, uint32_t events)
{
	struct mount_watch *w = data;
	(void)events;
	helper_log_read(&w->m->log);
	if (w->m->log.fd >= 0)
		return;
	loop_remove(w->log);
	w->log = NULL;
}

static void on_helper_end(void *data, uint32_t events)
{
	struct mount_watch *w = data;
	struct data_mount *m = w->m;
	char text[64];
	struct error line, ignored;
	int status = 0;
	(void)events;
	loop_remove(w->helper);
	loop_remove(w->log);
	w->helper = w->log = NULL;
	process_wait(&m->helper, &status, &ignored);
	helper_log_read(&m->log);
	helper_log_flush(&m->log);
	const char *last = helper_log_last(&m->log);
	error_set(&line, ERROR_UNAVAILABLE, "%s %s while the job ran%s%s", m->program,
		process_describe_status(status, text), *last ? ": " : "", last);
	tell(w, DATA_HELPER_DIED, line.text);
}

// ---- whether it answers

// Killed, and left to whoever reaps if the kernel does not let go of it: an abort makes it.
static void end_probe(struct mount_watch *w)
{
	loop_remove(w->probe_end);
	w->probe_end = NULL;
	if (w->probe.pid > 0) {
		kill(w->probe.pid, SIGKILL);
		waitpid(w->probe.pid, NULL, WNOHANG);
		close_fdp(&w->probe.pidfd);
	}
	w->probe = (struct process){.pidfd = -1};
}

static void on_probe_end(void *data, uint32_t events)
{
	struct mount_watch *w = data;
	(void)events;
	end_probe(w);
	w->strikes = 0; // an error is an answer, too
	loop_timer_set(w->timer, w->interval_ms);
}

static void start_probe(struct mount_watch *w)
{
	struct error ignored;
	if (mount_child_start(mount_look, w->m->path, &w->probe, &ignored) == 0)
		w->probe_end =
			loop_add_fd(w->loop, w->probe.pidfd, EPOLLIN, on_probe_end, w, &ignored);
	if (!w->probe_end)
		end_probe(w);
	loop_timer_set(w->timer, w->probe_end ? w->limit_ms : w->interval_ms);
}

// Time for a look, or the end of one's time.
static void on_time(void *data)
{
	struct mount_watch *w = data;
	if (!w->probe_end) {
		start_probe(w);
		return;
	}
	if (++w->strikes >= STRIKES)
		tell(w, DATA_STALLED, "it did not answer any more and was aborted");
	end_probe(w);
	if (w->told && w->m->helper.pid > 0)
		loop_timer_set(w->timer, -1); // a connection that is aborted stays so
	else
		loop_timer_set(w->timer, w->told ? w->interval_ms : 0);
}

int mount_watch_start(struct data_mount *m, struct loop *loop, int64_t interval_ms,
	mount_died_fn *died, void *data, struct error *err)
{
	struct mount_watch *w = xcalloc(1, sizeof(*w));
	m->watch = w;
	*w = (struct mount_watch){.m = m,
		.loop = loop,
		.probe.pidfd = -1,
		.interval_ms = interval_ms,
		.limit_ms = interval_ms / 3 > LIMIT_MS_MIN ? interval_ms / 3 : LIMIT_MS_MIN,
		.died = died,
		.data = data};
	w->timer = loop_add_timer(loop, interval_ms, on_time, w, err);
	bool ok = w->timer != NULL;
	if (ok && m->helper.pid > 0) {
		w->helper = loop_add_fd(loop, m->helper.pidfd, EPOLLIN, on_helper_end, w, err);
		ok = w->helper != NULL;
	}
	if (ok && m->log.fd >= 0) {
		w->log = loop_add_fd(loop, m->log.fd, EPOLLIN, on_log, w, err);
		ok = w->log != NULL;
	}
	return ok ? 0 : -1;
}

void mount_watch_stop(struct data_mount *m)
{
	struct mount_watch *w = m->watch;
	if (!w)
		return;
	end_probe(w);
	loop_remove(w->helper);
	loop_remove(w->log);
	loop_remove(w->timer);
	free(w);
	m->watch = NULL;
}

bool mount_watch_owns(const struct data_mount *m, pid_t pid)
{
	return pid > 0 && (pid == m->helper.pid || (m->watch && pid == m->watch->probe.pid));
}
