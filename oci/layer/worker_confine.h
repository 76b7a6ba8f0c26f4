// SPDX-License-Identifier: Apache-2.0
//
// How a layer worker gives up what it does not need. After both steps a worker that was taken over
// by a malicious archive can read, write and map the descriptors it holds, and compute. The
// directory form can also make files below its folder.
//
// Order: confine_privileges() while there is one thread (credentials belong to threads), then the
// threads, then confine_system_calls() for all of them, then the first foreign byte.
#pragma once

#include "base/error.h"

#include <stdint.h>

enum confine_profile {
	CONFINE_IMAGE,		      // descriptors only
	CONFINE_DIRECTORY_PRIVILEGED, // root: makes files of any owner and type below a folder
	CONFINE_DIRECTORY_UNPRIVILEGED,
	CONFINE_TREE, // reads what is below a folder, whoever owns it
};

// No new privileges, no core dump, no ptrace by equals. Root becomes user 65534 without
// capabilities, or keeps those that making files takes. For the directory forms the folder `dirfd`
// becomes all there is: chroot(2), or Landlock (Linux 5.19) where that is not permitted. For root
// the descriptor then leads to a mount of the folder without devices, so that none of those it can
// make can be opened; CAP_SYS_ADMIN is needed for that. An unprivileged worker on a kernel without
// Landlock is held by its system calls alone. CONFINE_IMAGE ignores `dirfd`.
int confine_privileges(enum confine_profile profile, int dirfd, struct error *err);

// A bound on the process's memory behind the counted one, for what is not counted or a stranger
// asks for: beyond it the worker ends, and not the node. Not in builds with AddressSanitizer.
int confine_memory(uint64_t metadata_bytes, struct error *err);

// seccomp(2) for every thread of the process. Any other system call kills the process with SIGSYS.
// `socket` is the one descriptor that messages may pass through.
int confine_system_calls(enum confine_profile profile, int socket, struct error *err);
