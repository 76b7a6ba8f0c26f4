// SPDX-License-Identifier: Apache-2.0
//
// `stoker runtime`: the command line of an OCI runtime (docs/runtime.md), as engines call it. One
// file per group of its verbs; what they share is here.
#pragma once

#include "agent/command/command.h"
#include "oci/runtime/container.h"
#include "oci/runtime/hooks.h"
#include "oci/runtime/state.h"

struct runtime_command {
	struct command *command;
	const char *root; // the containers' folders
	const char *log;  // file, NULL: stderr
	bool log_json, debug;
	char *root_memory;
};

// Arguments begin with the verb's name. Returns the exit status, or -1 with the error.
typedef int runtime_verb_fn(struct runtime_command *r, int argc, char **argv, struct error *err);
runtime_verb_fn runtime_verb_create, runtime_verb_run, runtime_verb_start, runtime_verb_state,
	runtime_verb_kill, runtime_verb_delete, runtime_verb_exec, runtime_verb_ps,
	runtime_verb_list, runtime_verb_features, runtime_verb_spec;

// options_parse() for a verb; marks usage errors.
int runtime_options(struct runtime_command *r, const struct option *options,
	const struct options_usage *usage, bool stop_at_positional, int argc, char **argv,
	char ***rest, int *rest_count, struct error *err);
// Engines tell a program that is missing, or may not be executed, by certain words in the error.
void runtime_use_engines_words(struct error *err);
// Each line of `text` as a warning: into the log, or to stderr.
void runtime_warn(const struct runtime_command *r, const struct buffer *text);

// A container that exists.
struct runtime_target {
	int folder; // of its state
	struct arena arena;
	struct runtime_state state;
};
int runtime_open(
	struct runtime_command *r, const char *id, struct runtime_target *t, struct error *err);
void runtime_target_release(struct runtime_target *t);
#define cleanup_runtime_target __attribute__((cleanup(runtime_target_release)))
// The specification as it was at `create`.
int runtime_load_spec(struct runtime_target *t, struct runtime_spec *spec, struct error *err);
// ERROR_INVALID unless it has one of these statuses (bits: 1 << RUNTIME_…).
int runtime_expect(
	const struct runtime_state *s, unsigned statuses, const char *what, struct error *err);

// In the container's folder: opened by `start`, waited for by what becomes the program.
#define RUNTIME_START_FIFO "start"
// Let the program of a created container start, and run the poststart hooks.
int runtime_start(struct runtime_command *r, struct runtime_target *t, struct error *err);

// Destroy what `create` made, and run the poststop hooks; nothing of the container runs any more,
// save what has left its process 1 (which is killed).
int runtime_destroy(struct runtime_command *r, struct runtime_target *t, struct error *err);

// The end of a process in a container: exit status as a shell has it.
int runtime_exit_status(int wait_status);
// Before a process is started that runtime_relay() will be for: signals wait until then, and a
// terminal has the size of ours from the start.
void runtime_relay_prepare(struct runtime_process *p);
// Wait for the end of a process. Signals that we get go to it. With a terminal (`master`, else -1)
// our own is made raw and connected with it.
int runtime_relay(int pidfd, int master, struct error *err);
// Where a terminal comes from: the socket that --console-socket names, or (name NULL) one end of a
// pair whose other end *ours is for runtime_receive_terminal(). Returns the socket.
int runtime_console_socket(const char *name, int *ours, struct error *err);
int runtime_receive_terminal(int ours, struct error *err);
// The size of our own terminal, where we have one and the process names none.
void runtime_terminal_size(struct runtime_process *p);

// --preserve-fds: all must have come to us. A number that is free, or already one of our own (which
// are marked to close at exec), would become one of the node's files in the container.
int runtime_check_fds(uint64_t count, struct error *err);

// --pid-file: written at once, or not at all.
int runtime_write_pid(const char *path, pid_t pid, struct error *err);
