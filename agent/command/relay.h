// SPDX-License-Identifier: Apache-2.0
//
// Bytes from one descriptor to another in an event loop. Nothing of ours that is a terminal is ever
// given to a process in a container, which could do more with it than read and write; it gets a
// pipe, or a terminal of its own, and we copy.
#pragma once

#include "base/error.h"
#include "base/loop.h"

#include <stdbool.h>
#include <stddef.h>

enum { RELAY_SIZE = 16 * 1024 };

struct relay {
	struct loop *loop;
	int in_fd, out_fd;	      // the caller's, but for what `own` says
	bool own_in, own_out;	      // closed at the end
	struct loop_source *in, *out; // NULL: a file, which is always ready, or ended
	bool ended;
	size_t at, filled;
	void (*end)(void *data); // called once, when there is nothing more to copy
	void *data;
	char buffer[RELAY_SIZE];
};

// Both descriptors may be shared with others and stay blocking: nothing is read or written that
// would block. The relay must not move in memory.
int relay_start(struct relay *r, struct loop *loop, struct error *err);
// What can be read now goes out, waiting for the reader; then the end.
void relay_finish(struct relay *r);
void relay_stop(struct relay *r); // fine on a zeroed one, and twice
