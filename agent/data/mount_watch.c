// SPDX-License-Identifier: Apache-2.0
#include "agent/data/mount_watch.h"

#include <string.h>

struct mount_watch {
	struct data_mount *m;
	struct loop_source *helper, *log;
	mount_died_fn *died;
	void *data;
};

static void tell(struct mount_watch *w, enum data_failure failure, const char *text)
{
	bool told = w->m->failed;
	w->m->failed = true;
	if (!told)
		w->died(w->data, w->m, failure, text);
}

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
	m->kind->abort(m); // a descendant of its may have the connection open
	tell(w, DATA_HELPER_DIED, line.text);
}

void mount_watch_lost(struct data_mount *m, const char *text)
{
	if (m->watch)
		tell(m->watch, DATA_STALLED, text);
	m->failed = true;
}

int mount_watch_start(
	struct data_mount *m, struct loop *loop, mount_died_fn *died, void *data, struct error *err)
{
	struct mount_watch *w = xcalloc(1, sizeof(*w));
	m->watch = w;
	*w = (struct mount_watch){.m = m, .died = died, .data = data};
	bool ok = true;
	if (m->helper.pid > 0) {
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
	loop_remove(w->helper);
	loop_remove(w->log);
	free(w);
	m->watch = NULL;
}
