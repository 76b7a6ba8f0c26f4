// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/container.h"

#include "base/file.h"
#include "base/message.h"
#include "oci/runtime/container_internal.h"
#include "oci/runtime/spec_names.h"
#include "oci/runtime/user_namespace.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t clone_with(uint64_t flags, int cgroup_fd, int *pidfd)
{
	struct clone_args args = {
		// The cgroup namespace follows when the group has been joined.
		.flags = (flags & ~(uint64_t)CLONE_NEWCGROUP) | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)pidfd,
		// A child of another's child has its signal from that one.
		.exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
	};
	if (cgroup_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup_fd;
	}
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

// Named namespaces are entered by a process in between, which makes the container's as its sibling
// (CLONE_PARENT) and leaves: we keep ours, and what is to be new belongs to the named user
// namespace. First those that the node's privileges open; then the user namespace, and those that
// take its privileges.
static int enter_named(const struct container_launch *l, struct error *err)
{
	bool done[RUNTIME_NAMESPACES] = {0};
	for (int turn = 0; turn < 2; turn++) {
		for (int i = 0; i < RUNTIME_NAMESPACES; i++) {
			if (l->joined[i] < 0 || done[i] ||
				(turn == 0 && i == RUNTIME_NAMESPACE_USER))
				continue;
			done[i] = setns(l->joined[i], 0) == 0;
			if (!done[i] && (turn == 1 || errno != EPERM))
				return error_set_errno(err, errno, "enter a named namespace");
		}
		int user = l->joined[RUNTIME_NAMESPACE_USER];
		if (turn == 0 && user >= 0) {
			if (setns(user, CLONE_NEWUSER) < 0)
				return error_set_errno(err, errno, "enter the user namespace");
			done[RUNTIME_NAMESPACE_USER] = true;
		}
	}
	return 0;
}

static void __attribute__((noreturn)) between(const struct container_launch *l)
{
	struct error err = {0}, ignored;
	int pidfd = -1;
	// Others may live in the namespaces already, with all privileges over the user namespace,
	// and we have the node's descriptors. Not else: who maps a new namespace's ids must own us.
	if (l->joined[RUNTIME_NAMESPACE_USER] >= 0)
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (enter_named(l, &err) < 0) {
		sync_send(l->sync_fd, SYNC_ERROR, 0, &err, &ignored);
		_exit(127);
	}
	pid_t pid = clone_with(l->new_namespaces | CLONE_PARENT, -1, &pidfd);
	if (pid == 0)
		container_child(l);
	if (pid < 0)
		error_set_errno(&err, errno, "clone a container");
	sync_send(l->sync_fd, pid < 0 ? SYNC_ERROR : SYNC_PID, pid, &err, &ignored);
	_exit(0);
}

static bool names_any(const struct container_launch *l)
{
	for (int i = 0; i < RUNTIME_NAMESPACES; i++)
		if (l->joined[i] >= 0)
			return true;
	return false;
}

// Take a message that must be of that kind; another is the failure.
static int expect(int fd, enum sync_kind kind, struct sync_message *m, struct error *err)
{
	int got = sync_receive(fd, m, err);
	if (got < 0)
		return -1;
	if (got == 0)
		return error_set(err, ERROR_SYSTEM, "the container ended while it was started");
	if (m->kind == SYNC_ERROR) {
		*err = m->error;
		return -1;
	}
	return m->kind == kind ? 0 : error_set(err, ERROR_SYSTEM, "the container is out of step");
}

// The process in between has told the container's number, in the PID namespace that both have.
static int take_sibling(
	struct process *between_process, int sync_fd, struct process *p, struct error *err)
{
	struct sync_message m;
	int status;
	if (expect(sync_fd, SYNC_PID, &m, err) < 0)
		return -1;
	p->pid = m.pid;
	p->pidfd = (int)syscall(SYS_pidfd_open, m.pid, 0);
	if (p->pidfd < 0)
		return error_set_errno(err, errno, "open the container's process");
	return process_wait(between_process, &status, err);
}

static void limit_one(pid_t pid, const struct runtime_rlimit *r, struct buffer *warnings)
{
	struct rlimit wanted = {.rlim_cur = r->soft, .rlim_max = r->hard}, had;
	if (prlimit(pid, (enum __rlimit_resource)r->resource, &wanted, NULL) == 0 ||
		prlimit(pid, (enum __rlimit_resource)r->resource, NULL, &had) < 0)
		return;
	// What cannot be raised stays as high as it may be.
	if (wanted.rlim_max > had.rlim_max)
		wanted.rlim_max = had.rlim_max;
	if (wanted.rlim_cur > wanted.rlim_max)
		wanted.rlim_cur = wanted.rlim_max;
	prlimit(pid, (enum __rlimit_resource)r->resource, &wanted, NULL);
	if (warnings)
		buffer_printf(warnings, "%s: %llu is more than this node allows; it is %llu\n",
			runtime_rlimit_name(r->resource), (unsigned long long)r->hard,
			(unsigned long long)wanted.rlim_max);
}

static void adjust_oom_score(pid_t pid, int score, struct buffer *warnings)
{
	char path[64], text[16];
	struct error err;
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
	snprintf(text, sizeof(text), "%d", score);
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	if ((fd < 0 || write_all(fd, text, strlen(text), path, &err) < 0) && warnings)
		buffer_printf(warnings, "oom_score_adj %d could not be set\n", score);
}

void container_limit(pid_t pid, const struct runtime_process *p, struct buffer *warnings)
{
	for (size_t i = 0; i < p->rlimit_count; i++)
		limit_one(pid, &p->rlimits[i], warnings);
	if (p->has_oom_score_adj)
		adjust_oom_score(pid, p->oom_score_adj, warnings);
}

// What the parent does to the child while that waits.
static int set_up(const struct container_launch *l, pid_t pid, struct error *err)
{
	const struct container_options *o = l->o;
	if (l->new_namespaces & CLONE_NEWUSER &&
		user_namespace_map(pid, &o->spec->uid_mappings, &o->spec->gid_mappings, err) < 0)
		return -1;
	container_limit(pid, &o->spec->process, o->warnings);
	return 0;
}

static int run_hooks(const struct container_launch *l, int sync_fd, pid_t pid, struct error *err)
{
	const struct container_options *o = l->o;
	struct sync_message m;
	if (!container_has_hooks(o))
		return 0;
	if (expect(sync_fd, SYNC_MOUNTED, &m, err) < 0 ||
		o->hook(o->data, RUNTIME_HOOK_PRESTART, pid, -1, err) < 0 ||
		o->hook(o->data, RUNTIME_HOOK_CREATE_RUNTIME, pid, -1, err) < 0)
		return -1;
	return sync_send(sync_fd, SYNC_GO, pid, NULL, err);
}

static int bring_up(
	const struct container_launch *l, int sync_fd, struct process *p, struct error *err)
{
	const struct container_options *o = l->o;
	struct sync_message m;
	if (set_up(l, p->pid, err) < 0)
		return -1;
	// Group version 2: with clone. Where that could not be, the child joins by itself.
	if (sync_send(sync_fd, SYNC_GO, p->pid, NULL, err) < 0)
		return -1;
	if (o->prepare && o->prepare(o->data, p->pid, err) < 0)
		return -1;
	if (run_hooks(l, sync_fd, p->pid, err) < 0)
		return -1;
	return expect(sync_fd, SYNC_READY, &m, err);
}

static int clone_child(
	const struct container_launch *l, int parent_end, struct process *p, struct error *err)
{
	sigset_t all, before;
	bool named = names_any(l);
	int cgroup_fd = l->o->cgroup ? cgroup_clone_fd(l->o->cgroup) : -1, pidfd = -1;
	// Blocked, so that no handler of ours runs in the child.
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t pid = clone_with(named ? 0 : l->new_namespaces, cgroup_fd, &pidfd);
	if (pid == 0) {
		close(parent_end);
		if (named)
			between(l);
		container_child(l);
	}
	int sys = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return error_set_errno(err, sys, "clone a container%s",
			sys == EPERM ? " (this needs root, or user namespaces for everybody)" : "");
	*p = (struct process){.pid = pid, .pidfd = pidfd};
	if (!named)
		return 0;
	cleanup_process struct process middle = *p;
	*p = (struct process){.pidfd = -1};
	return take_sibling(&middle, parent_end, p, err);
}

static int launch(struct container_launch *l, struct container *c, struct error *err)
{
	int pair[2], status[2];
	if (message_pair(pair, err) < 0)
		return -1;
	cleanup_fd int ours = pair[0], theirs = pair[1];
	if (pipe2(status, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "pipe");
	cleanup_fd int status_read = status[0], status_write = status[1];
	cleanup_process struct process p = {.pidfd = -1};
	l->sync_fd = theirs;
	l->status_fd = status_write;
	int rc = clone_child(l, ours, &p, err);
	close(steal_fd(&theirs));
	close(steal_fd(&status_write));
	if (rc < 0 || bring_up(l, ours, &p, err) < 0)
		return -1;
	*c = (struct container){
		.init = p,
		.sync_fd = steal_fd(&ours),
		.status_fd = l->o->init ? steal_fd(&status_read) : -1,
	};
	p = (struct process){.pidfd = -1};
	return 0;
}

int container_create(const struct container_options *o, struct container *c, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct container_launch l = {.o = o};
	if (!o->spec->has_process || !o->spec->process.args.count)
		return error_set(err, ERROR_INVALID, "process.args: there is no program to run");
	int rc = container_sources_open(&l, &a, err);
	if (rc == 0)
		rc = launch(&l, c, err);
	container_sources_close(&l);
	return rc;
}

int container_start(struct container *c, struct error *err)
{
	struct sync_message m;
	int got = sync_send(c->sync_fd, SYNC_GO, c->init.pid, NULL, err);
	if (got == 0)
		got = sync_receive(c->sync_fd, &m, err);
	close(steal_fd(&c->sync_fd));
	if (got == 0)
		return 0;
	if (got > 0)
		*err = m.error;
	container_release(c);
	return -1;
}

void container_signal(const struct container *c, int signo)
{
	if (c->init.pid > 0)
		syscall(SYS_pidfd_send_signal, c->init.pidfd, signo, NULL, 0);
}

int container_wait(struct container *c, int *status, struct error *err)
{
	int reported, own;
	if (process_wait(&c->init, &own, err) < 0)
		return -1;
	*status = own;
	if (c->status_fd >= 0) {
		// Everything in the container is dead, so the pipe is complete.
		ssize_t n;
		while ((n = read(c->status_fd, &reported, sizeof(reported))) < 0 && errno == EINTR)
			;
		close(steal_fd(&c->status_fd));
		if (n == sizeof(reported))
			*status = reported;
	}
	return 0;
}

void container_release(struct container *c)
{
	if (c->init.pid <= 0)
		return;
	process_release(&c->init);
	container_detach(c);
}

void container_detach(struct container *c)
{
	if (c->init.pid > 0)
		close_fdp(&c->init.pidfd);
	if (c->init.pid > 0 || c->sync_fd > 0)
		close_fdp(&c->sync_fd);
	if (c->status_fd > 0)
		close_fdp(&c->status_fd);
	*c = (struct container){.init.pidfd = -1, .sync_fd = -1, .status_fd = -1};
}
