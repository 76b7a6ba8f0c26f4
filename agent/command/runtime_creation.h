// SPDX-License-Identifier: Apache-2.0
//
// The parts of `stoker runtime create` and `run`.
#pragma once

#include "agent/command/runtime.h"

struct create_request {
	const char *bundle, *pid_file, *console_socket;
	uint64_t preserve_fds;
	bool detach, keep, no_pivot, no_new_keyring;
};

// What is on the way. Callbacks get it as their data; in the child it is a copy.
struct creation {
	struct runtime_command *r;
	const struct create_request *q;
	struct runtime_target target;
	struct runtime_spec spec;
	struct cgroup *cgroup;
	struct container container;
	struct buffer warnings;
	char *bundle; // absolute
	int fifo, console, console_ours;
	bool hooks_began;
};

void creation_init(struct creation *c, struct runtime_command *r, const struct create_request *q);
void creation_release(struct creation *c);
#define cleanup_creation __attribute__((cleanup(creation_release)))

// Read config.json of the bundle into c->spec, complete it, and refuse what does not go together.
// `text`: the document as it was.
int creation_read_bundle(struct creation *c, struct buffer *text, struct error *err);
// Make the control group, with the device rules that every container has.
int creation_make_cgroup(struct creation *c, struct error *err);
// All of it, up to the program that waits for runtime_start(). On failure nothing is left.
int creation_run(struct creation *c, const char *id, struct error *err);
