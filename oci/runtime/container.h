// SPDX-License-Identifier: Apache-2.0
//
// A container: one process tree in its own mount, PID, IPC, UTS and cgroup namespaces on a root file system
// that rootfs.h made. What is to be mounted is first computed as a list (container_plan(), testable without
// root) and then applied by the child between clone and exec.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/process.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct container_bind {
	const char *source; // absolute path on the node; a folder or a file
	const char *target; // absolute path in the container; made where missing
	bool read_only;
};

struct container_spec {
	int rootfs_fd; // a detached mount (rootfs_overlay_mount()); stays the caller's
	const char *hostname;
	const char *const *argv, *const *envp; // NULL-terminated
	const char *cwd;  // absolute; made where missing
	const char *user; // "", "1000", "1000:100", "name", "name:group", looked up in the image
	const struct container_bind *binds;
	size_t bind_count;
	uint64_t shm_size; // bytes of /dev/shm; 0: 64 MiB
	int stdio[3];	   // what becomes 0, 1, 2; -1: /dev/null
};

// Start it. On success `p` is its process 1 as seen from here; when that ends, everything in the container
// has ended. A failure before the program runs is returned here, with the kind of its cause: a program that
// does not exist is ERROR_NOT_FOUND ("python: not found in the image's PATH (/usr/bin:…)").
int container_start(const struct container_spec *spec, struct process *p, struct error *err);
