// SPDX-License-Identifier: Apache-2.0
//
// A container: one process tree in its own mount, PID, IPC, UTS and cgroup namespaces on a root
// file system that rootfs.h made. What is to be mounted is first computed as a list
// (container_plan.h, testable without root) and then applied by the child between clone and exec.
//
// Process 1 is a small init, a fork of the caller: it reaps orphans, forwards signals to the
// program (those of the keyboard to its process group) and reports its wait status. It has the
// program's user and capabilities, may not be traced, and dies with the caller; with it dies
// everything inside. User, network and seccomp separation and cgroup limits are not here yet.
#pragma once

#include "base/error.h"
#include "base/process.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct container_bind {
	const char *source; // absolute path on the node; a folder or a file
	const char *target; // absolute path in the container; made where missing
	bool read_only;
	bool owned; // the folder (not what is in it) is given to the container's user
};

// A small file that stands in the container instead of the image's: /etc/hosts and the like. What
// the image has there, a symbolic link too, is replaced.
struct container_file {
	const char *path; // absolute
	const char *data;
	size_t size;
	mode_t mode;
};

struct container_spec {
	// A detached mount (rootfs_overlay_mount()); it stays the caller's and can be used once.
	int rootfs_fd;
	const char *hostname;
	const char *const *argv, *const *envp; // NULL-terminated
	// Names tried instead of argv[0] in each folder of PATH, NULL-terminated; NULL: argv[0].
	const char *const *programs;
	const char *cwd;  // absolute; made where missing
	const char *user; // "", "1000", "1000:100", "name", "name:group", looked up in the image
	const struct container_bind *binds;
	size_t bind_count;
	const struct container_file *files;
	size_t file_count;
	uint64_t shm_size; // bytes of /dev/shm; 0: 64 MiB
	int stdio[3];	   // what becomes 0, 1, 2; -1: /dev/null
};

// What PATH is when the environment has none (Docker's).
extern const char container_default_path[];

struct container {
	struct process init; // process 1; its pidfd is readable when everything has ended
	int status_fd;	     // where it reports
};

// Start it. HOME is added to the environment where missing. The calling process must have one
// thread only. A failure before the program runs is returned here, with the kind of its cause: a
// program that does not exist is ERROR_NOT_FOUND ("python: not found in the image's PATH
// (/usr/bin:…)"), a bad name of a user ERROR_INVALID or ERROR_NOT_FOUND.
int container_start(const struct container_spec *spec, struct container *c, struct error *err);
// Send a signal to the program; SIGKILL ends everything at once. One that has ended is no error.
void container_signal(const struct container *c, int signo);
// Wait for the end of everything in it. *status is the program's wait status (waitpid(2)), or
// process 1's own if that was killed.
int container_wait(struct container *c, int *status, struct error *err);
// Kill, if running. For cleanup; fine on a zeroed one and after container_wait().
void container_release(struct container *c);

#define cleanup_container __attribute__((cleanup(container_release)))
