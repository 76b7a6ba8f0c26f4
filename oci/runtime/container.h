// SPDX-License-Identifier: Apache-2.0
//
// A container: a process tree in namespaces of its own, as a runtime_spec describes it. What is to
// be mounted is first computed as a list (container_plan.h, testable without root) and then applied
// by the child between clone and exec.
//
// Who does what: the parent, who has the node's privileges, opens everything that lies outside (the
// root, the sources of binds, devices) as detached mounts, gives them the container's ids, makes
// the child in its namespaces, maps its ids and sets its limits. The child has privileges over its
// own namespaces only; it builds its root of what it was given, leaves the node and becomes the
// program. Where the parent is an ordinary user, the child opens the sources itself.
#pragma once

#include "base/error.h"
#include "base/process.h"
#include "oci/runtime/cgroup.h"
#include "oci/runtime/spec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// A small file that stands in the container instead of the image's: /etc/hosts and the like. What
// the image has there, a symbolic link too, is replaced.
struct container_file {
	const char *path; // absolute
	const char *data;
	size_t size;
	mode_t mode;
};

struct container_options {
	const struct runtime_spec *spec;
	// A detached mount of the root file system (rootfs_overlay_mount()); it stays the caller's
	// and can be used once. -1: mount_root(), else spec->root_path, counted from `bundle`.
	int rootfs_fd;
	// Called in the child, in its namespaces; returns such a mount. May be NULL.
	int (*mount_root)(void *data, struct error *err);
	const char *bundle; // absolute; NULL: relative paths of the specification are refused

	int ids_fd; // a namespace with the container's ids (user_namespace_new()); 0: made if
		    // needed
	struct cgroup *cgroup; // joined; NULL: the caller's own
	// Process 1 is a small init of ours, which reaps orphans, forwards signals to the program
	// (those of the keyboard to its process group) and reports its wait status. Else the
	// program is process 1.
	bool init;
	bool die_with_parent; // everything is killed when the calling thread ends
	// Names tried instead of args[0] in each folder of PATH, NULL-terminated; NULL: args[0].
	const char *const *programs;
	const struct container_file *files;
	size_t file_count;
	int stdio[3];	    // what becomes 0, 1, 2; -1: /dev/null. Not with a terminal.
	int console_socket; // of an AF_UNIX stream: gets the terminal's master end; -1: none
	int preserve_fds;   // 3 … 3 + n - 1 are passed on
	// The program starts when somebody opens this FIFO (O_PATH) for reading, and what fails
	// then is written there as struct error; -1: container_start().
	int start_fifo;
	// Called by the parent when the namespaces are there and nothing is mounted yet: networks,
	// hooks. May be NULL.
	int (*prepare)(void *data, pid_t pid, struct error *err);
	// Called in the child at RUNTIME_HOOK_CREATE_CONTAINER, before the root is changed, and at
	// RUNTIME_HOOK_START_CONTAINER. `pid`: its own in the caller's PID namespace; `root_fd`:
	// the new root at the first of the two, else -1. May be NULL.
	int (*hook)(void *data, enum runtime_hook_point point, pid_t pid, int root_fd,
		struct error *err);
	void *data;
	struct buffer *warnings; // one line each: what could not be had and is not vital; or NULL
};

struct container {
	struct process init; // process 1; its pidfd is readable when everything has ended
	int sync_fd;	     // to the child, until it has become the program
	int status_fd;	     // where our init reports; -1 without it
};

// Make it, up to the point just before the program. Its environment gets PATH and HOME where they
// are missing. The calling process must have one thread only. A failure is returned here, with the
// kind of its cause.
int container_create(const struct container_options *o, struct container *c, struct error *err);
// Let the program start (not with a start_fifo). A program that does not exist is ERROR_NOT_FOUND
// ("python: not found in the image's PATH (/usr/bin:…)"). On failure the container is gone.
int container_start(struct container *c, struct error *err);
// Send a signal to the program; SIGKILL ends everything at once. One that has ended is no error.
void container_signal(const struct container *c, int signo);
// Wait for the end of everything in it. *status is the program's wait status (waitpid(2)), or
// process 1's own if that was killed.
int container_wait(struct container *c, int *status, struct error *err);
// Kill, if running. For cleanup; fine on a zeroed one and after container_wait().
void container_release(struct container *c);
// Forget it and leave it running.
void container_detach(struct container *c);

// Another process in the namespaces of a running container.
struct container_exec {
	int pidfd; // of a process in the container; it must live until this returns
	pid_t pid; // the same
	// What it is: user, capabilities, environment, … With `terminal`, console_socket is needed.
	const struct runtime_process *process;
	const struct runtime_seccomp *seccomp; // NULL: none
	const struct cgroup *cgroup;	       // joined; NULL: the caller's own
	int stdio[3];
	int console_socket;
	int preserve_fds;
};
// The process of the program in a container that has an init of ours: an ordinary user may not look
// into process 1, which has this program's memory, but into what runs with the container's rights
// alone. p->pidfd is the caller's to close.
int container_find_program(const struct container *c, struct process *p, struct error *err);
// Starts it; *p is its process, a child of ours. Fails as container_start().
int container_exec(const struct container_exec *x, struct process *p, struct error *err);

// What is at a path and below, as a detached mount with the ids of a user namespace where its file
// system can (userns_fd -1: as they are): what "x-idmap" means in a specification of ours.
int container_bind_with_ids(const char *path, int userns_fd, struct error *err);

// Make a file in a root file system, in place of what has its name there; links on the way count
// from that root. Folders that are missing are made.
int container_write_file(int root_fd, const struct container_file *file, struct error *err);

#define cleanup_container __attribute__((cleanup(container_release)))

// What PATH is when the environment has none (Docker's).
extern const char container_default_path[];

// Users of an image.
enum { CONTAINER_GROUPS_MAX = 64, CONTAINER_HOME_MAX = 256 };
struct container_user {
	uid_t uid;
	gid_t gid;
	gid_t groups[CONTAINER_GROUPS_MAX]; // supplementary
	size_t group_count;
	char home[CONTAINER_HOME_MAX]; // "/" if the image does not say
};
// Look up `name` ("", "1000", "name:group", …) in the /etc/passwd and /etc/group of a root file
// system. ERROR_INVALID: no such form; ERROR_NOT_FOUND: no such user.
int container_user_lookup(
	int root_fd, const char *name, struct container_user *user, struct error *err);
// The same with the texts of the two files.
int container_user_parse(const char *passwd, const char *group, const char *name,
	struct container_user *user, struct error *err);

// The specification that every job begins with: Docker's namespaces, mounts, masked and read-only
// paths, capabilities (without those that a job has no use for), seccomp profile, and a user
// namespace with the ids from `first_id` on (0: none).
void container_default_spec(struct arena *a, struct runtime_spec *spec, uint32_t first_id);
enum { CONTAINER_IDS = 65536 }; // of a job
