// SPDX-License-Identifier: Apache-2.0
//
// Further processes in the container of a job, for `stoker exec`: each belongs to the connection
// that asked for it, which is told its end. Without a terminal it works on the descriptors that
// came with the request; with one, the terminal's master end goes to whoever asked, who copies and
// resizes it by himself.
#pragma once

#include "agent/supervise/control.h"
#include "agent/supervise/supervisor_internal.h"

void exec_session_start(struct supervisor *s, struct control_peer *peer, const struct json *request,
	int fds[CONTROL_FDS_MAX]);
// A signal for the process that the connection has started.
void exec_session_signal(
	struct supervisor *s, struct control_peer *peer, const struct json *request);
// Is this one of their processes? It is reaped there.
bool exec_session_owns(const struct supervisor *s, pid_t pid);
// The container has ended, and all of them with it.
void exec_sessions_end(struct supervisor *s);
