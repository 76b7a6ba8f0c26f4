// SPDX-License-Identifier: Apache-2.0
//
// What a script prints: from the pipe to the file, byte for byte.
#pragma once

#include "base/error.h"
#include "base/loop.h"

#include <stdint.h>

struct output {
	int pipe_fd; // where the script's bytes come from, non-blocking; -1 at their end
	int file_fd;
	struct loop_source *source;
	uint64_t size;
	struct error error;	    // kind ERROR_NONE unless the file could not be written
	void (*failed)(void *data); // called once, when that happens
	void *data;
};

// Open the file `path`. Takes the pipe.
int output_open(struct output *o, int dirfd, const char *path, int pipe_fd, struct error *err);
// Move bytes whenever there are some.
int output_watch(struct output *o, struct loop *loop, struct error *err);
// All that is in the pipe, once all writers are gone; stops watching. Fails with what o->error
// holds.
int output_drain(struct output *o, struct error *err);
void output_close(struct output *o); // fine on a zeroed one
