// SPDX-License-Identifier: Apache-2.0
//
// How a job is brought to its end: asked by a signal, and killed when the grace period is over. The
// first who asks is the cause.
#pragma once

#include "agent/job/cause.h"
#include "base/loop.h"
#include "oci/runtime/container.h"

struct ending {
	const struct container *container; // NULL: not there (yet, any more)
	struct loop_source *grace;
	enum cause_stop stop;
	int signo;	  // what the script was asked with
	char detail[200]; // for cause_of_stop()
	bool killed;
	// It was killed and is still there: called every few seconds. May be NULL.
	void (*stuck)(void *data);
	void *data;
};

int ending_init(struct ending *e, struct loop *loop, struct error *err);
// `detail` may be NULL. Asking again (stop with a shorter time) moves the kill.
void ending_ask(
	struct ending *e, enum cause_stop stop, int signo, int64_t grace_ms, const char *detail);
void ending_kill(struct ending *e, enum cause_stop stop, const char *detail);
