// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/container.h"

#include "base/file.h"
#include "oci/runtime/container_internal.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// As fork(2), in new namespaces. The child goes on in our memory's copy, with every signal blocked
// so that no handler of ours runs there.
static pid_t clone_container(int *pidfd)
{
	struct clone_args args = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS |
			 CLONE_NEWCGROUP | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)pidfd,
		.exit_signal = SIGCHLD,
	};
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

// The child's error, or the end of the pipe once the program has taken its place.
static int read_start(int fd, struct error *err)
{
	struct error reported;
	size_t have = 0;
	while (have < sizeof(reported)) {
		ssize_t n = read(fd, (char *)&reported + have, sizeof(reported) - have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, errno, "start of the container");
		if (n == 0)
			break;
		have += (size_t)n;
	}
	if (have == 0)
		return 0;
	if (have < sizeof(reported))
		return error_set(err, ERROR_SYSTEM, "the container ended while it was started");
	*err = reported;
	err->text[sizeof(err->text) - 1] = '\0';
	return -1;
}

static int make_pipe(int fds[2], struct error *err)
{
	return pipe2(fds, O_CLOEXEC) < 0 ? error_set_errno(err, errno, "pipe") : 0;
}

static int launch(const struct container_spec *spec, const struct container_plan *plan,
	struct container *c, struct error *err)
{
	int error_pipe[2], status_pipe[2];
	if (make_pipe(error_pipe, err) < 0)
		return -1;
	cleanup_fd int error_read = error_pipe[0], error_write = error_pipe[1];
	if (make_pipe(status_pipe, err) < 0)
		return -1;
	cleanup_fd int status_read = status_pipe[0], status_write = status_pipe[1];
	const struct container_launch l = {
		.spec = spec,
		.plan = plan,
		.error_fd = error_write,
		.status_fd = status_write,
	};
	sigset_t all, before;
	int pidfd = -1;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t pid = clone_container(&pidfd);
	if (pid == 0) {
		close(error_read);
		close(status_read);
		container_child(&l);
	}
	int sys = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return error_set_errno(
			err, sys, "clone a container%s", sys == EPERM ? " (this needs root)" : "");
	close(steal_fd(&error_write));
	struct container started = {.init = {.pid = pid, .pidfd = pidfd}, .status_fd = -1};
	if (read_start(error_read, err) < 0) {
		process_release(&started.init);
		return -1;
	}
	started.status_fd = steal_fd(&status_read);
	*c = started;
	return 0;
}

int container_start(const struct container_spec *spec, struct container *c, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct container_plan plan;
	if (container_plan(&a, spec, &plan, err) < 0)
		return -1;
	return launch(spec, &plan, c, err);
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
	// Everything in the container is dead, so the pipe is complete.
	ssize_t n;
	while ((n = read(c->status_fd, &reported, sizeof(reported))) < 0 && errno == EINTR)
		;
	close(steal_fd(&c->status_fd));
	*status = n == sizeof(reported) ? reported : own;
	return 0;
}

void container_release(struct container *c)
{
	if (c->init.pid <= 0)
		return;
	process_release(&c->init);
	close_fdp(&c->status_fd);
	*c = (struct container){.status_fd = -1};
}
