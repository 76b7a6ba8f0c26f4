// SPDX-License-Identifier: Apache-2.0
//
// From a container's start to its end: output, signals, the deadline of those who do not listen.
#pragma once

#include "agent/job/output.h"
#include "base/error.h"
#include "oci/runtime/container.h"

struct watch_result {
	int status;   // the script's wait status
	int canceled; // the signal to us that asked for the end; 0 if none
};

// Signals are held back and reach the container as what they are. INT, TERM and HUP ask for the
// end: a script that goes on for `grace_ms` more is killed, and so is one whose user asks twice.
// Signals stay held back after watch_free().
struct watch;
struct watch *watch_new(int64_t grace_ms, struct error *err);
void watch_free(struct watch *w);
// Until the end of the container; the output is complete then. Fails if the output could not be
// kept.
int watch_run(struct watch *w, struct container *c, struct output *o, struct watch_result *result,
	struct error *err);

DEFINE_CLEANUP(watch_free, struct watch *, watch_free)
#define cleanup_watch __attribute__((cleanup(watch_freep)))
