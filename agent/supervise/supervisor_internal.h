// SPDX-License-Identifier: Apache-2.0
//
// A supervisor's parts, shared by its life (supervisor.c) and what it is asked (answer.c).
#pragma once

#include "agent/data/outputs.h"
#include "agent/job/sandbox.h"
#include "agent/supervise/control.h"
#include "agent/supervise/disk_watch.h"
#include "agent/supervise/ending.h"
#include "agent/supervise/output.h"
#include "agent/supervise/request.h"

// What a job came to, whether or not all of it could be recorded.
struct end {
	enum run_state state;
	struct cause cause;
	int exit_status;
};

struct supervisor {
	struct supervise_request request;
	struct store *store;
	struct run *run; // of the request
	struct store_layers layers;
	int link_fd, stdin_fd, listen_fd, lock_fd, folder_fd;
	struct loop *loop;
	struct control *control;
	struct ending ending;
	struct output output;
	struct disk_watch *disk;
	struct job job; // the sandbox's as long as that is open
	struct data_mounts *inputs;
	struct cause lost;     // of an input that went away; code NULL: none has
	struct waiting *waits; // waiting.h, looked at once one has; NULL
	struct loop_source *look;
	int inputs_fd;		     // the folder of their mount points; -1
	struct outputs_link results; // fd -1: nothing is copied
	struct loop_source *results_source;
	char results_trouble[sizeof(((struct error *)0)->text)]; // what keeps them; "" nothing
	struct sandbox sandbox;
	struct loop_source *network_source; // NULL: there is none to watch
	struct loop_source *exit_source, *deadline;
	bool waiting; // between two attempts
	bool has_sandbox;
	struct container container;
	struct cause trouble;	       // of a failure before the script; code NULL: by its phase
	struct end end;		       // once the script has ended
	struct buffer warnings;	       // of the sandbox, once that is closed
	struct exec_session *sessions; // exec_session.h
	size_t session_count;
	int stop_signal; // of the image, else SIGTERM
	uint64_t grace_ms;
	enum cause_phase phase;
};

// A request on the control socket; a control_fn.
void supervisor_answer(void *data, struct control_peer *peer, const struct json *request,
	int fds[CONTROL_FDS_MAX]);
// inputs.c
int supervisor_inputs_open(struct supervisor *s, struct error *err);
int supervisor_inputs_watch(struct supervisor *s, struct error *err);
// A job that was killed may wait for one of them; for struct ending.
void supervisor_inputs_let_go(void *data);
void supervisor_inputs_close(struct supervisor *s);
// results.c: the synchroniser beside the job. Its failure is written down and nothing else.
int supervisor_results_open(struct supervisor *s, struct error *err);
void supervisor_results_finish(struct supervisor *s);
// Close all that belonged to one attempt, and record its end if another one is to follow; that is
// begun then, after a while. false: this was the last.
bool supervisor_retry(struct supervisor *s);
// Ask the script to end because a user wants it, and record that state.
void supervisor_cancel(struct supervisor *s, enum cause_stop stop, int signo, int64_t grace_ms);
