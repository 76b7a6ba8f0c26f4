// SPDX-License-Identifier: Apache-2.0
//
// What a script prints: appended to a file byte for byte, and echoed to a descriptor of ours (our
// standard output) while it runs. The echo is read back from the file, so a slow reader delays
// neither the script nor signals, and nothing is kept in memory for him.
#pragma once

#include "base/error.h"
#include "base/loop.h"

#include <stdbool.h>
#include <stdint.h>

struct output {
	int pipe_fd; // where the script's bytes come from, non-blocking; -1 at their end
	int file_fd; // opened for reading and writing
	int echo_fd; // -1: no echo (any more)
	uint64_t size, echoed;
	struct loop_source *pipe_source, *echo_source;
	struct error error;	    // kind ERROR_NONE unless the file could not be written
	void (*failed)(void *data); // called once, when that happens
	void *data;
};

// Open the file `path` and make the pipe; *write_fd is the script's end, the caller's to close.
int output_open(struct output *o, int dirfd, const char *path, int echo_fd, int *write_fd,
	struct error *err);
// Move bytes whenever there are some.
int output_watch(struct output *o, struct loop *loop, struct error *err);
// All that is in the pipe, once all writers are gone; stops watching. Fails with what o->error
// holds.
int output_drain(struct output *o, struct error *err);
// Echo what is left; waits for the reader.
void output_finish_echo(struct output *o);
void output_close(struct output *o); // fine on a zeroed one

#define cleanup_output __attribute__((cleanup(output_close)))
