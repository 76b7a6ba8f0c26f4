// SPDX-License-Identifier: Apache-2.0
//
// Child processes. A child inherits nothing that is not named: every other descriptor is closed
// before exec (close_range(2)), signals are reset, and the child dies with its parent where asked.
#pragma once

#include "base/buffer.h"
#include "base/error.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct process {
	pid_t pid;
	int pidfd; // readable when the child has ended; -1 when none
};

struct process_fd {
	int parent; // descriptor here; stays open
	int child;  // its number there
};

struct process_options {
	const char *file;	      // path, or a name searched in PATH; NULL: this program itself
	const char *const *argv;      // NULL-terminated, argv[0] included
	const char *const *envp;      // NULL: the parent's environment
	const struct process_fd *fds; // all that the child gets; 0, 1, 2 if not named: /dev/null
	size_t fd_count;
	bool keep_stderr; // the child writes to our stderr
	// PR_SET_PDEATHSIG SIGKILL. The thread that starts the child must live on.
	bool die_with_parent;
	bool new_session; // setsid(): no terminal's signals reach it
};

// Start a child by vfork-like clone and exec. `file` NULL runs a sealed copy of this program (in
// memory, made at the first use): the hidden helper processes are this program again. Fails with
// NOT_FOUND where the program does not exist.
int process_start(const struct process_options *o, struct process *p, struct error *err);

// Become a sealed copy of this program with the same arguments and descriptors, unless it is one
// already (then 0). For a program that will itself become a process of a container.
int process_become_sealed(char *const *argv, struct error *err);

// Wait for the end. Returns the wait status as waitpid(2) gives it in *status and forgets the
// child.
int process_wait(struct process *p, int *status, struct error *err);
// Kill with SIGKILL and reap, if running. For cleanup; a zeroed structure holds no child.
void process_release(struct process *p);

// "exited with status 3", "was killed by signal 9 (Killed)".
const char *process_describe_status(int status, char text[64]);

// Run a program to its end: `input` (may be NULL) on its stdin, stdout into `output` (at most
// `limit` bytes), stderr into the error text when the status is not 0. timeout_ms 0: none.
// Over the limit or the time it is killed: ERROR_LIMIT; a status other than 0 is ERROR_SYSTEM. What
// it has started and left behind is neither waited for nor killed.
int process_run(const char *const *argv, const char *input, struct buffer *output, size_t limit,
	int timeout_ms, struct error *err);

// The same with everything said.
struct process_run_options {
	const char *file;	 // path, or a name searched in PATH; NULL: argv[0]
	const char *const *argv; // NULL-terminated
	const char *const *envp; // NULL: the parent's environment
	const char *input;	 // on its stdin; NULL: /dev/null
	size_t limit;		 // of its stdout, in bytes
	int timeout_ms;		 // 0: none
};
int process_run_with(const struct process_run_options *o, struct buffer *output, struct error *err);

// The signals that end a program which somebody waits for: SIGINT, SIGTERM, and SIGHUP unless who
// started us has it ignored, as nohup(1) does. Held back it would come all the same.
void process_end_signals(sigset_t *set);

#define cleanup_process __attribute__((cleanup(process_release)))
