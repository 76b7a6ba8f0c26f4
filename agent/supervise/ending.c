// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/ending.h"

#include <signal.h>
#include <stdio.h>

enum { STUCK_MS = 5000 };

// Everything: with process 1 of the container the kernel kills all that is inside. What is left
// then waits for something, in the kernel, that no signal ends.
static void on_grace(void *data)
{
	struct ending *e = data;
	if (!e->container)
		return;
	container_signal(e->container, SIGKILL);
	if (e->killed && e->stuck)
		e->stuck(e->data);
	e->killed = true;
	loop_timer_set(e->grace, STUCK_MS);
}

int ending_init(struct ending *e, struct loop *loop, struct error *err)
{
	*e = (struct ending){0};
	e->grace = loop_add_timer(loop, -1, on_grace, e, err);
	return e->grace ? 0 : -1;
}

static void note(struct ending *e, enum cause_stop stop, int signo, const char *detail)
{
	if (e->stop != STOP_NONE)
		return;
	e->stop = stop;
	e->signo = signo;
	snprintf(e->detail, sizeof(e->detail), "%s", detail ? detail : "");
}

void ending_ask(
	struct ending *e, enum cause_stop stop, int signo, int64_t grace_ms, const char *detail)
{
	note(e, stop, signo, detail);
	if (!e->container)
		return;
	container_signal(e->container, signo);
	if (e->killed)
		return;
	loop_timer_set(e->grace, grace_ms);
}

void ending_kill(struct ending *e, enum cause_stop stop, const char *detail)
{
	note(e, stop, SIGKILL, detail);
	on_grace(e);
}
