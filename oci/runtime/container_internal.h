// SPDX-License-Identifier: Apache-2.0
//
// The parts of a container's start, which run one after the other in the child (container_child.c).
#pragma once

#include "oci/runtime/container.h"
#include "oci/runtime/container_plan.h"

enum { CONTAINER_GROUPS_MAX = 64, CONTAINER_HOME_MAX = 256 };

struct container_user {
	uid_t uid;
	gid_t gid;
	gid_t groups[CONTAINER_GROUPS_MAX]; // supplementary
	size_t group_count;
	char home[CONTAINER_HOME_MAX]; // "/" if the image does not say
};

// What the child gets; memory is the parent's, copied by clone.
struct container_launch {
	const struct container_spec *spec;
	const struct container_plan *plan;
	int error_fd;  // a struct error is written here if the program cannot be started
	int status_fd; // process 1 writes the program's wait status here
};

// The child after clone; never returns.
void container_child(const struct container_launch *l) __attribute__((noreturn));

// Process 1: reap, forward, report; never returns.
void container_init(pid_t program, int status_fd) __attribute__((noreturn));

// Open the folder (or file, if `file`) `path` below `root_fd`, O_PATH; symbolic links count from
// that root and never lead out of it. What is missing is made. `plain`: links are refused.
int container_target(int root_fd, const char *path, bool file, bool plain, struct error *err);
// Carry the plan out on the mount root_fd, in the caller's mount namespace.
int container_mount(int root_fd, const struct container_plan *plan,
	const struct container_user *user, struct error *err);
int container_write_file(int root_fd, const struct container_file *file, struct error *err);

// Look up `name` ("", "1000", "name:group", …) in the image's /etc/passwd and /etc/group.
int container_user_lookup(
	int root_fd, const char *name, struct container_user *user, struct error *err);
// The same with the texts of the two files.
int container_user_parse(const char *passwd, const char *group, const char *name,
	struct container_user *user, struct error *err);

// Drop to the user and to Docker's default capabilities; no way back (no_new_privs).
int container_drop(const struct container_user *user, struct error *err);

// Become the program. Returns only on failure.
int container_exec(
	const struct container_spec *spec, const struct container_user *user, struct error *err);
