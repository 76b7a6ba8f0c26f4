// SPDX-License-Identifier: Apache-2.0
//
// Another process in a running container. A process of ours goes into the container's namespaces
// and forks there (a PID namespace is for children); what it forks becomes the program. While it
// still is this program, inside, it can be neither traced nor looked into (PR_SET_DUMPABLE), has no
// descriptor of ours but those it passes on, and asks nothing by path before it is the container's
// user.
#include "base/file.h"
#include "base/message.h"
#include "base/text.h"
#include "base/time.h"
#include "oci/runtime/container_internal.h"

#include <linux/keyctl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_MS = 10 * 1000, PROC_BYTES_MAX = 64 * 1024 };

struct exec_launch {
	const struct container_exec *x;
	struct seccomp_program seccomp;
	int sync_fd;
	int flags; // namespaces to enter
};

static const struct {
	int flag;
	const char *name;
} namespaces[] = {
	{CLONE_NEWUSER, "user"},
	{CLONE_NEWCGROUP, "cgroup"},
	{CLONE_NEWIPC, "ipc"},
	{CLONE_NEWUTS, "uts"},
	{CLONE_NEWNET, "net"},
	{CLONE_NEWPID, "pid"},
	{CLONE_NEWNS, "mnt"},
};

static bool is_other(pid_t pid, const char *name)
{
	char path[64], own[64];
	struct stat theirs, ours;
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, name);
	snprintf(own, sizeof(own), "/proc/self/ns/%s", name);
	return stat(path, &theirs) == 0 && stat(own, &ours) == 0 && theirs.st_ino != ours.st_ino;
}

static void __attribute__((noreturn)) give_up(const struct exec_launch *l, const struct error *why)
{
	struct error ignored;
	sync_send(l->sync_fd, SYNC_ERROR, 0, why, &ignored);
	_exit(127);
}

// All at once by the process's descriptor: no number is looked up again.
static int enter_all(const struct exec_launch *l, struct error *err)
{
	if (l->x->cgroup && cgroup_join(l->x->cgroup, err) < 0)
		return -1;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "prctl");
	if (setns(l->x->pidfd, l->flags) < 0)
		return error_set_errno(err, errno, "enter the container's namespaces");
	if (l->flags & CLONE_NEWUSER && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
		return error_set_errno(err, errno, "become the container's root");
	// The ids' change has set it back.
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "prctl");
	return 0;
}

static int prepare(const struct exec_launch *l, int stdio[3], struct error *err)
{
	const struct container_exec *x = l->x;
	int above = 16 + x->preserve_fds;
	cleanup_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return error_set_errno(err, errno, "open the container's root");
	cleanup_fd int slave = -1;
	if (x->process->terminal) {
		slave = container_terminal(root, x->process, x->console_socket, false, err);
		if (slave < 0)
			return -1;
	}
	const int terminal[3] = {slave, slave, slave};
	if (container_take_stdio(
		    root, x->process->terminal ? terminal : x->stdio, above, stdio, err) < 0 ||
		container_drop(x->process, &l->seccomp, err) < 0)
		return -1;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "prctl");
	return 0;
}

static void __attribute__((noreturn)) become_program(const struct exec_launch *l)
{
	struct error err = {0};
	struct container_program p = {
		.process = l->x->process,
		.seccomp = &l->seccomp,
		.terminal = l->x->process->terminal,
		.preserve_fds = l->x->preserve_fds,
	};
	setsid();
	if (prepare(l, p.stdio, &err) < 0)
		give_up(l, &err);
	p.report_fd = fcntl(l->sync_fd, F_DUPFD_CLOEXEC, 3 + l->x->preserve_fds);
	if (p.report_fd < 0)
		_exit(127);
	container_become(&p);
}

// Ours, but of the container's PID namespace: the program is our parent's child (CLONE_PARENT), so
// that nothing of ours stays beside it.
static void __attribute__((noreturn)) go_inside(const struct exec_launch *l)
{
	struct error err = {0}, ignored;
	container_reset_signals();
	// The program inherits these: without, it would have our limits, our place before the OOM
	// killer and the keys of our session.
	container_limit(getpid(), l->x->process, NULL);
	syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
	if (enter_all(l, &err) < 0)
		give_up(l, &err);
	struct clone_args args = {.flags = CLONE_PARENT};
	pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		become_program(l);
	if (pid < 0) {
		error_set_errno(&err, errno, "clone in the container");
		give_up(l, &err);
	}
	sync_send(l->sync_fd, SYNC_PID, pid, NULL, &ignored);
	_exit(0);
}

// As sync_receive(), but not for ever: root in the container can stop what still is this program,
// or hold a lease on the file that it opens (fcntl(2), F_SETLEASE), and whoever waits here has more
// to do.
static int receive_until(int sync_fd, int64_t deadline, struct sync_message *m, struct error *err)
{
	struct pollfd p = {.fd = sync_fd, .events = POLLIN};
	for (;;) {
		int64_t left = deadline - now_ms();
		int n = poll(&p, 1, left > 0 ? (int)left : 0);
		if (n > 0)
			return sync_receive(sync_fd, m, err);
		if (n == 0)
			return error_set(err, ERROR_LIMIT,
				"the process was not started within %d s", START_MS / 1000);
		if (errno != EINTR)
			return error_set_errno(err, errno, "poll");
	}
}

// The number that the middle process told is of our PID namespace: it has entered the other for its
// children only.
static int take_program(int sync_fd, struct process *middle, struct process *p, struct error *err)
{
	struct sync_message m;
	struct error why = {0};
	const int64_t deadline = now_ms() + START_MS;
	int status, got;
	bool failed = false;
	p->pid = 0;
	while ((got = receive_until(sync_fd, deadline, &m, err)) > 0) {
		if (m.kind == SYNC_PID) {
			p->pid = m.pid;
			p->pidfd = (int)syscall(SYS_pidfd_open, m.pid, 0);
		} else {
			why = m.error;
			failed = true;
		}
	}
	if (got < 0 || process_wait(middle, &status, err) < 0)
		return -1;
	if (failed) {
		*err = why;
		return -1;
	}
	if (p->pid <= 0)
		return error_set(err, ERROR_SYSTEM, "the process ended while it was started");
	return p->pidfd < 0 ? error_set_errno(err, errno, "open the new process") : 0;
}

// Its descriptor is taken before its parent is asked for: a number that was given to another
// process meanwhile is none of our init's children.
static bool is_child(pid_t pid, pid_t of)
{
	cleanup_buffer struct buffer b = {0};
	struct error ignored;
	char path[64], wanted[32];
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	snprintf(wanted, sizeof(wanted), "\nPPid:\t%d\n", (int)of);
	return file_read(AT_FDCWD, path, PROC_BYTES_MAX, &b, &ignored) == 0 && b.data &&
	       strstr(b.data, wanted);
}

int container_find_program(const struct container *c, struct process *p, struct error *err)
{
	cleanup_buffer struct buffer children = {0};
	char path[64];
	uint64_t pid;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)c->init.pid,
		(int)c->init.pid);
	if (file_read(AT_FDCWD, path, PROC_BYTES_MAX, &children, err) < 0)
		return -1;
	// The oldest comes first; those behind it are orphans that the init has taken in.
	const char *text = children.data ? children.data : "";
	if (!parse_u64_n(text, strspn(text, "0123456789"), &pid) || pid > INT32_MAX)
		return error_set(err, ERROR_NOT_FOUND, "the container has ended");
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (pidfd < 0 || !is_child((pid_t)pid, c->init.pid))
		return error_set(err, ERROR_NOT_FOUND, "the container has ended");
	*p = (struct process){.pid = (pid_t)pid, .pidfd = steal_fd(&pidfd)};
	return 0;
}

int container_exec(const struct container_exec *x, struct process *p, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct exec_launch l = {.x = x};
	sigset_t all, before;
	int pair[2];
	if (!x->process->args.count)
		return error_set(err, ERROR_INVALID, "process.args: there is no program to run");
	if (x->seccomp && x->seccomp->default_action &&
		seccomp_compile(&a, x->seccomp, &l.seccomp, err) < 0)
		return -1;
	for (size_t i = 0; i < array_size(namespaces); i++)
		if (is_other(x->pid, namespaces[i].name))
			l.flags |= namespaces[i].flag;
	if (!l.flags)
		return error_set(err, ERROR_NOT_FOUND, "the container has ended");
	if (message_pair(pair, err) < 0)
		return -1;
	cleanup_fd int ours = pair[0], theirs = pair[1];
	l.sync_fd = theirs;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	int cgroup_fd = x->cgroup ? cgroup_clone_fd(x->cgroup) : -1;
	cleanup_process struct process middle = {.pidfd = -1};
	struct clone_args args = {
		.flags = CLONE_PIDFD | (cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uint64_t)(uintptr_t)&middle.pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = cgroup_fd >= 0 ? (uint64_t)cgroup_fd : 0,
	};
	middle.pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (middle.pid == 0) {
		close(ours);
		go_inside(&l);
	}
	int sys = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(steal_fd(&theirs));
	if (middle.pid < 0)
		return error_set_errno(err, sys, "clone");
	cleanup_process struct process program = {.pidfd = -1};
	if (take_program(ours, &middle, &program, err) < 0)
		return -1;
	*p = program;
	program = (struct process){.pidfd = -1};
	return 0;
}
