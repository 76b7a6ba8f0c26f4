// SPDX-License-Identifier: Apache-2.0
//
// The parts of a container's start. In the parent: container.c, container_sources.c; in the child:
// container_child.c and what it calls, one after the other.
#pragma once

#include "oci/runtime/container.h"
#include "oci/runtime/container_plan.h"
#include "oci/runtime/seccomp.h"

// What the child gets; memory is the parent's, copied by clone.
struct container_launch {
	const struct container_options *o;
	struct container_plan plan;
	struct seccomp_program seccomp; // size 0: none
	int sync_fd;			// the child's end
	int status_fd;			// our init writes the program's wait status here; -1
	int root_fd;			// a detached mount, or -1: the child opens it
	int joined[RUNTIME_NAMESPACES]; // namespaces to enter; -1: none
	int ids_fd;			// the container's, for idmapped mounts; -1: not made yet
	uint64_t new_namespaces;	// CLONE_NEW…
};

// Hooks for which both stop between mounting and leaving the node: parent and child must agree.
bool container_has_hooks(const struct container_options *o);

// ---- parent and child talk in these over a SOCK_SEQPACKET pair

enum sync_kind {
	SYNC_ERROR,   // to the parent: the end
	SYNC_GO,      // to the child: go on; pid: its own, where the parent is
	SYNC_MOUNTED, // to the parent: all is mounted, the root not changed; wants SYNC_GO
	SYNC_READY,   // to the parent: nothing is left but the program
	SYNC_PID,     // to the parent: from the process between the two
};
struct sync_message {
	enum sync_kind kind;
	pid_t pid;
	struct error error;
};
int sync_send(int fd, enum sync_kind kind, pid_t pid, const struct error *text, struct error *err);
// 1: a message; 0: the other end is gone; -1.
int sync_receive(int fd, struct sync_message *m, struct error *err);

// ---- parent

// Open what lies outside: root, sources of binds, /dev, namespaces, the filter. What we have no
// privileges for stays -1, for the child.
int container_sources_open(struct container_launch *l, struct arena *a, struct error *err);
void container_sources_close(struct container_launch *l);
// Resource limits and the OOM killer's score, with the node's privileges. What cannot be had is
// told in `warnings` (NULL: nowhere).
void container_limit(pid_t pid, const struct runtime_process *p, struct buffer *warnings);

// ---- child; these never return

void container_child(const struct container_launch *l) __attribute__((noreturn));
// Process 1: reap, forward, report.
void container_init(pid_t program, int status_fd) __attribute__((noreturn));

// ---- what the child calls

// Open the folder (or file, if `file`) `path` below `root_fd`, O_PATH; symbolic links count from
// that root and never lead out of it. What is missing is made. `plain`: links are refused.
int container_target(int root_fd, const char *path, bool file, bool plain, struct error *err);
// Carry the plan out on the mount root_fd, in the caller's mount namespace.
int container_mount(int root_fd, const struct container_launch *l, struct error *err);

// mount.c's tools: a detached new file system, a detached copy of what is at a path (or at a
// descriptor with the path ""), and putting one in its place.
// What is shown as its source is `source`, or (NULL) the type.
int container_new_filesystem(const char *type, const char *source, const char *options,
	uint64_t attributes, struct error *err);
int container_clone_tree(int fd, const char *path, const struct mount_words *words, int userns_fd,
	struct error *err);
// Copy what is in the folder `from` (O_PATH), and its owner and mode, into `to`.
int container_copy_up(int from, int to, const char *target, struct error *err);
int container_attach(int mount_fd, int target_fd, const char *target, struct error *err);
// MOUNT_ATTR_ that are set and cleared, propagation and ids, on a detached mount.
int container_restrict(int tree, const char *name, const struct mount_words *words, int userns_fd,
	struct error *err);

// Make the device nodes, links and folders in the folder dev_fd: by mknod(2), or (`bind`) as mounts
// of the node's.
int container_make_devices(
	int dev_fd, const struct runtime_spec *spec, bool bind, struct error *err);

// STEP_CGROUP.
int container_mount_cgroup(int root_fd, const struct container_step *s, struct error *err);

// sysctl(8) settings, in the new /proc.
int container_write_sysctls(int root_fd, const struct runtime_spec *spec, struct error *err);

// A new terminal in the container's /dev/pts: the master end goes to `socket`, the other one is
// returned and, with `console`, stands at /dev/console.
int container_terminal(
	int root_fd, const struct runtime_process *p, int socket, bool console, struct error *err);

// Would container_become() find it? ERROR_NOT_FOUND, ERROR_DENIED.
int container_check_program(
	const struct runtime_process *process, const char *const *names, struct error *err);

// From the container's root to the user, capabilities and (without no_new_privs) filter of the
// process; no way back.
int container_drop(
	const struct runtime_process *p, const struct seccomp_program *seccomp, struct error *err);

// What is common to the first program of a container and to further ones: from there to the
// program. stdio and the descriptors from 3 on to preserve_fds are kept.
struct container_program {
	const struct runtime_process *process;
	const struct seccomp_program *seccomp;
	const char *const *names; // container_options.programs
	int stdio[3];		  // all there
	bool terminal;
	int preserve_fds;
	int (*last)(void *data, struct error *err); // called just before; may be NULL
	void *data;
	int report_fd;	   // where a failure is told; closed by exec
	bool report_plain; // as struct error, else as a sync_message
};
void container_become(const struct container_program *p) __attribute__((noreturn));

void container_reset_signals(void);
// Descriptors for the program, above all that dup2() overwrites; -1 becomes the container's
// /dev/null (root_fd: its root).
int container_take_stdio(
	int root_fd, const int given[3], int above, int taken[3], struct error *err);
