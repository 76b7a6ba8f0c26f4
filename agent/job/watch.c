// SPDX-License-Identifier: Apache-2.0
#include "agent/job/watch.h"

#include "base/loop.h"
#include "base/memory.h"

#include <signal.h>

struct watch {
	struct loop *loop;
	struct loop_source *grace;
	int64_t grace_ms;
	int canceled;
	struct container *container; // NULL: not yet
};

static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
static const int forwarded[] = {SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};

static void ask_for_the_end(struct watch *w, int signo)
{
	container_signal(w->container, signo);
	loop_timer_set(w->grace, w->grace_ms);
}

static void on_end_signal(void *data, int signo)
{
	struct watch *w = data;
	bool again = w->canceled != 0;
	if (!again)
		w->canceled = signo;
	if (!w->container)
		return;
	if (again)
		container_signal(w->container, SIGKILL);
	else
		ask_for_the_end(w, signo);
}

static void on_signal(void *data, int signo)
{
	struct watch *w = data;
	if (w->container)
		container_signal(w->container, signo);
}

static void on_grace(void *data)
{
	struct watch *w = data;
	container_signal(w->container, SIGKILL);
}

static void on_exit_of_container(void *data, uint32_t events)
{
	struct watch *w = data;
	(void)events;
	loop_quit(w->loop, 0);
}

static void on_output_failed(void *data)
{
	on_grace(data);
}

static int add_signals(struct watch *w, struct error *err)
{
	for (size_t i = 0; i < array_size(ends); i++)
		if (!loop_add_signal(w->loop, ends[i], on_end_signal, w, err))
			return -1;
	for (size_t i = 0; i < array_size(forwarded); i++)
		if (!loop_add_signal(w->loop, forwarded[i], on_signal, w, err))
			return -1;
	return 0;
}

struct watch *watch_new(int64_t grace_ms, struct error *err)
{
	cleanup_watch struct watch *w = xcalloc(1, sizeof(*w));
	w->grace_ms = grace_ms;
	w->loop = loop_new(err);
	if (!w->loop)
		return NULL;
	w->grace = loop_add_timer(w->loop, -1, on_grace, w, err);
	if (!w->grace || add_signals(w, err) < 0)
		return NULL;
	signal(SIGPIPE, SIG_IGN); // a reader of the echo who leaves does not end the job
	return steal(w);
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	loop_free(w->loop);
	free(w);
}

int watch_run(struct watch *w, struct container *c, struct output *o, struct watch_result *result,
	struct error *err)
{
	w->container = c;
	o->failed = on_output_failed;
	o->data = w;
	struct loop_source *end =
		loop_add_fd(w->loop, c->init.pidfd, EPOLLIN, on_exit_of_container, w, err);
	int rc = end ? output_watch(o, w->loop, err) : -1;
	if (rc == 0)
		rc = loop_run(w->loop, err);
	loop_remove(end);
	w->container = NULL;
	loop_timer_set(w->grace, -1);
	if (rc < 0)
		return -1;
	*result = (struct watch_result){.canceled = w->canceled};
	if (container_wait(c, &result->status, err) < 0)
		return -1;
	return output_drain(o, err);
}
