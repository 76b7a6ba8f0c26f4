// SPDX-License-Identifier: Apache-2.0
//
// One command of a build, in the sandbox of a job over the base image: its own ids, limits,
// private network, a supervisor. It ends when we end.
#pragma once

#include "agent/environment/environment.h"

struct step_place { // where a build's steps run
	const struct environment_options *o;
	const char *opt_path;	   // on the node; bound to /opt/stoker, writable: env/, pkgs/, tmp/
	struct json_strings binds; // more, "SOURCE:TARGET", read-only: lent tools, wheels
	int listen_fd;		   // package_proxy_socket(); -1
	uint64_t deadline_ms;	   // of the whole build, monotonic; 0: none
};

struct step {
	const char *phase; // for the log: "pip install"
	struct json_strings argv;
	struct json_pairs env; // all of it: nothing of the image's but PATH
	uint64_t max_seconds;  // of this step; 0: what is left of the build
	// Each whole line (without its newline) as it is printed; may be NULL.
	void (*line)(void *data, const char *line);
	// Some times a second, as long as it runs; may be NULL.
	void (*tick)(void *data);
	void *data;
};

struct step_result {
	int exit_status;
	enum environment_failure failure; // of the sandbox: out of memory, time, space; else OK
	char message[sizeof(((struct error *)0)->text)]; // of that failure, one line
	struct buffer output; // the last STEP_OUTPUT_MAX bytes, stdout and stderr together
};
enum { STEP_OUTPUT_MAX = 4 * 1024 * 1024 };

// 0 whatever its exit status; -1: it could not be run at all, or we were canceled.
int environment_step(
	const struct step_place *p, const struct step *s, struct step_result *r, struct error *err);
void step_result_release(struct step_result *r);
