// SPDX-License-Identifier: Apache-2.0
//
// The other side of the control socket: starting a supervisor, and talking to one that runs.
#pragma once

#include "agent/supervise/request.h"
#include "base/json.h"

// A supervisor that we started, and our connection to it.
struct supervise_link {
	struct process process;
	int fd;
};

// Start it and hand the job over: the lock of the run goes with it (and stays with us too until we
// close job->run->lock_fd, so no moment passes in which nobody holds it). It outlives us and has a
// session of its own. "started" or "ended" comes by supervise_receive(); if the connection ends
// before, the supervisor has not taken the run.
int supervise_start(const struct job *job, const struct supervise_settings *settings,
	struct supervise_link *link, struct error *err);
void supervise_link_release(struct supervise_link *link); // leaves it running

// Connect to the supervisor of a run. ERROR_NOT_FOUND if it has none (any more).
int supervise_connect(struct store *s, const char *run_id, struct error *err);

// The next answer or event: 1, 0 at the end of the connection, -1. With `nonblocking` -2 when there
// is none yet.
int supervise_receive(
	int fd, struct arena *a, bool nonblocking, const struct json **message, struct error *err);
// Send a request (the writer is at the end of its object), and wait for the answer. An error in the
// answer is returned as ours. `reply` may be NULL.
struct json_writer;
int supervise_call(int fd, struct json_writer *request, struct arena *a, const struct json **reply,
	struct error *err);
// The same with descriptors.
struct supervise_request_fds {
	const int *send; // stay the caller's
	size_t send_count;
	int *received; // -1 if none came; NULL: none is expected
};
int supervise_call_fds(int fd, struct json_writer *request, const struct supervise_request_fds *fds,
	struct arena *a, const struct json **reply, struct error *err);
int supervise_send(int fd, struct json_writer *request, struct error *err);

// Requests of protocol.h. 0 for the image's stop signal, -1 for the node's grace period.
struct json_writer *supervise_stop_request(const char *by, int signo, int64_t grace_ms);
struct json_writer *supervise_signal_request(int signo);
struct json_writer *supervise_request_of(const char *what, const char *by);

#define cleanup_supervise_link __attribute__((cleanup(supervise_link_release)))
