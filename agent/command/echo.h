// SPDX-License-Identifier: Apache-2.0
//
// What a job's log holds, and what comes to it, goes to a descriptor of ours (our standard output).
// It is read from the file, so a slow reader delays nobody but us.
#pragma once

#include "base/error.h"
#include "base/loop.h"

#include <stdbool.h>
#include <stdint.h>

struct echo {
	struct loop *loop;
	int file_fd, notify_fd;
	int out_fd; // -1: the reader has left
	bool can_block, cannot_send, resting;
	uint64_t at; // bytes that are out
	struct loop_source *notify, *writable, *more, *rest;
};

// Follow the file `path` from its start.
int echo_start(struct echo *e, struct loop *loop, int dirfd, const char *path, int out_fd,
	struct error *err);
// All that is left; waits for the reader.
void echo_finish(struct echo *e);
void echo_release(struct echo *e); // before the loop goes; fine on a zeroed one

#define cleanup_echo __attribute__((cleanup(echo_release)))
