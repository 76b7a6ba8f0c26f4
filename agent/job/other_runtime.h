// SPDX-License-Identifier: Apache-2.0
//
// The same job by another OCI runtime (runc, crun, runsc): the container that a sandbox describes
// is written as a bundle with its config.json, and the runtime is called with create, start and
// delete. What our own runtime does in memory becomes visible to the other by a mount namespace
// that ends with the call: the root file system, mounts with the job's ids, files of ours.
#pragma once

#include "agent/job/sandbox.h"

// The configuration of the sandbox as the node's runtime gets it: in the bundle of another, or what
// ours has in memory (fit for `stoker runtime`).
int other_runtime_config(struct sandbox *s, struct buffer *json, struct error *err);

// As container_create(): `program` is the runtime, a name in PATH or an absolute path; stdio as in
// container_options. The caller must be a subreaper (PR_SET_CHILD_SUBREAPER): process 1 becomes its
// child when the runtime has ended.
int other_runtime_create(struct sandbox *s, const char *program, const int stdio[3],
	struct container *c, struct error *err);
int other_runtime_start(struct sandbox *s, const char *program, struct error *err);
// When it has ended, or to be rid of it. One that is not there is no error.
int other_runtime_delete(struct sandbox *s, const char *program, struct error *err);
// What is kept of a container of a run that is over, when nothing of it runs any more.
void other_runtime_forget(struct store *s, const char *run_id);
