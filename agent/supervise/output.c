// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/output.h"

#include "base/file.h"
#include "base/message.h"
#include "base/time.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DRAIN_MS = 60 * 1000 }; // a pipe's worth, on a disk that is busy

// 1: it said something (in *said); 0: it has ended; -1: nothing in time.
static int hear(const struct output *o, int64_t deadline_ms, struct error *said)
{
	struct pollfd p = {.fd = o->news_fd, .events = POLLIN};
	struct error ignored;
	int n;
	do {
		int64_t left = deadline_ms - now_ms();
		n = poll(&p, 1, left > 0 ? (int)left : 0);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return -1;
	return message_receive(o->news_fd, said, sizeof(*said), NULL, 0, false, &ignored) ==
	       sizeof(*said);
}

static int start_writer(
	struct output *o, const struct output_options *options, int pipe_fd, struct error *err)
{
	int fds[2];
	if (message_pair(fds, err) < 0)
		return -1;
	cleanup_fd int ours = fds[0], theirs = fds[1];
	pid_t pid = fork();
	if (pid < 0)
		return error_set_errno(err, errno, "fork");
	if (pid == 0)
		output_write(options, pipe_fd, theirs, o->counts);
	o->writer = (struct process){.pid = pid, .pidfd = (int)syscall(SYS_pidfd_open, pid, 0)};
	o->news_fd = steal_fd(&ours);
	return 0;
}

int output_open(
	struct output *o, const struct output_options *options, int pipe_fd, struct error *err)
{
	cleanup_fd int pipe = pipe_fd;
	struct error opened;
	*o = (struct output){.news_fd = -1, .writer.pidfd = -1};
	void *shared = mmap(NULL, sizeof(*o->counts), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return error_set_errno(err, errno, "mmap");
	o->counts = shared;
	if (start_writer(o, options, pipe, err) < 0)
		return -1;
	if (hear(o, now_ms() + DRAIN_MS, &opened) <= 0)
		return error_set(err, ERROR_SYSTEM, "the log's writer did not begin");
	if (opened.kind == ERROR_NONE)
		return 0;
	*err = opened;
	return -1;
}

static void fail(struct output *o, const struct error *err)
{
	if (o->error.kind != ERROR_NONE)
		return;
	o->error = *err;
	if (o->failed)
		o->failed(o->data);
}

static void on_news(void *data, uint32_t events)
{
	struct output *o = data;
	struct error said;
	(void)events;
	int rc = hear(o, 0, &said);
	if (rc < 0)
		return;
	if (rc == 0) { // somebody has killed it
		loop_remove(o->source);
		o->source = NULL;
		error_set(&said, ERROR_SYSTEM, "the log's writer has ended");
	}
	fail(o, &said);
}

int output_watch(struct output *o, struct loop *loop, struct error *err)
{
	o->source = loop_add_fd(loop, o->news_fd, EPOLLIN, on_news, o, err);
	return o->source ? 0 : -1;
}

// One that waits for the pipe's lock, which somebody outside of the job may hold, is left behind.
static int end_writer(struct output *o, struct error *err)
{
	struct error said;
	int64_t deadline = now_ms() + DRAIN_MS;
	int rc, status = 0;
	shutdown(o->news_fd, SHUT_WR);
	while ((rc = hear(o, deadline, &said)) > 0)
		fail(o, &said);
	if (rc < 0) {
		kill(o->writer.pid, SIGKILL);
		close_fdp(&o->writer.pidfd);
		o->writer = (struct process){.pidfd = -1};
		return error_set(err, ERROR_UNAVAILABLE, "the log was not complete within %d s",
			DRAIN_MS / 1000);
	}
	if (process_wait(&o->writer, &status, err) == 0 && status != 0)
		return error_set(err, ERROR_SYSTEM, "the log's writer has ended");
	return 0;
}

int output_drain(struct output *o, struct error *err)
{
	struct error second = {0};
	loop_remove(o->source);
	o->source = NULL;
	o->failed = NULL; // the script has ended
	if (end_writer(o, &second) < 0)
		fail(o, &second);
	if (o->error.kind == ERROR_NONE)
		return 0;
	*err = o->error;
	return -1;
}

struct journal_counts output_counts(const struct output *o)
{
	if (!o->counts)
		return (struct journal_counts){0};
	return (struct journal_counts){
		.size = __atomic_load_n(&o->counts->size, __ATOMIC_RELAXED),
		.dropped = __atomic_load_n(&o->counts->dropped, __ATOMIC_RELAXED),
	};
}

bool output_owns(const struct output *o, pid_t pid)
{
	return pid > 0 && pid == o->writer.pid;
}

void output_close(struct output *o)
{
	struct error ignored;
	if (o->writer.pid > 0)
		output_drain(o, &ignored);
	loop_remove(o->source);
	close_fdp(&o->news_fd);
	if (o->counts)
		munmap(o->counts, sizeof(*o->counts));
	*o = (struct output){.news_fd = -1, .writer.pidfd = -1};
}
