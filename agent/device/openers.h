// SPDX-License-Identifier: Apache-2.0
//
// Which processes have a device node open or mapped: all of /proc, each process' descriptors and
// mappings. By the number of the device, so that a node in a container, of another name or removed
// counts as well.
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct openers_node {
	char type; // 'c' or 'b'
	unsigned major, minor;
	const char *path; // for mappings, where the kernel does not let us see the number
};

struct opener {
	pid_t pid;
	uint64_t start;	  // with the pid: which process it was (clock ticks after boot)
	char command[16]; // made fit to be printed
	size_t node;	  // index
};

enum { OPENERS_MAX = 64 };

// One entry a process, at most OPENERS_MAX; /proc is read to its end or until there are so many.
// Processes that end meanwhile, or that we may not look into, are passed over.
int openers_find(const struct openers_node *nodes, size_t node_count,
	struct opener found[OPENERS_MAX], size_t *count, struct error *err);
