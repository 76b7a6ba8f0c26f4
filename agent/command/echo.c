// SPDX-License-Identifier: Apache-2.0
#include "agent/command/echo.h"

#include "base/file.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

// To close an inotify descriptor takes the kernel up to 15 ms (it waits for all who may still look
// at the mark), as long as a short job in all: so one is made for jobs that go on for longer.
enum {
	READ_SIZE = 64 * 1024,
	TURN_BYTES = 4 * 1024 * 1024,
	MUCH_BYTES = 64 * 1024,
	REST_MS = 5,
	WATCH_AFTER_MS = 50,
};

// Does a write block for a slow reader? Files are always ready, and epoll does not take them.
static bool is_stream(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode);
}

static bool is_writable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	return poll(&p, 1, 0) > 0;
}

// false: it would block now, or the reader has left. PIPE_BUF bytes are what a pipe that polls
// writable takes without blocking; the descriptor is not made non-blocking, since it is shared with
// the shell that started us.
static bool write_some(struct echo *e, const char *data, size_t size, bool wait)
{
	while (size > 0) {
		size_t step = e->can_block && size > PIPE_BUF ? PIPE_BUF : size;
		if (!wait && e->can_block && !is_writable(e->out_fd))
			return false;
		ssize_t n = write(e->out_fd, data, step);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			if (!wait)
				return false;
			struct pollfd p = {.fd = e->out_fd, .events = POLLOUT};
			poll(&p, 1, -1);
			continue;
		}
		if (n <= 0) {
			e->out_fd = -1; // the file has it all
			return false;
		}
		data += n;
		size -= (size_t)n;
		e->at += (uint64_t)n;
	}
	return true;
}

// To a file, or to /dev/null, in the kernel. false: not possible here; nothing was done.
static bool send_some(struct echo *e, bool *all)
{
	off_t at = (off_t)e->at;
	if (e->can_block || e->cannot_send)
		return false;
	ssize_t n = sendfile(e->out_fd, e->file_fd, &at, TURN_BYTES);
	if (n < 0 && errno != EINTR) {
		e->cannot_send = true; // opened for appending, or an error that write(2) tells too
		return false;
	}
	*all = n == 0;
	e->at += n > 0 ? (uint64_t)n : 0;
	return true;
}

// Returns true when all that the file holds is out.
static bool echo_turn(struct echo *e, uint64_t most, bool wait)
{
	char data[READ_SIZE];
	for (uint64_t begin = e->at; e->out_fd >= 0 && e->at - begin < most;) {
		bool all;
		if (send_some(e, &all)) {
			if (all)
				return true;
			continue;
		}
		ssize_t n = pread(e->file_fd, data, sizeof(data), (off_t)e->at);
		if (n <= 0)
			return true;
		if (!write_some(e, data, (size_t)n, wait))
			return e->out_fd < 0;
	}
	return e->out_fd < 0;
}

// What is left waits for the reader, or for the next turn, so that signals get theirs.
static void echo_more(struct echo *e)
{
	struct error ignored;
	uint64_t before = e->at;
	bool behind = !echo_turn(e, TURN_BYTES, false);
	if (e->notify && e->out_fd >= 0 && !e->resting && e->at - before >= MUCH_BYTES) {
		// Much is printed: one look for many of the supervisor's writes, which needs the
		// processor too.
		e->resting = true;
		loop_modify_fd(e->notify, 0, &ignored);
		loop_timer_set(e->rest, REST_MS);
	}
	if (e->out_fd < 0) { // a closed one would wake the loop for ever
		loop_remove(e->writable);
		e->writable = NULL;
	}
	if (e->writable)
		loop_modify_fd(e->writable, behind ? EPOLLOUT : 0, &ignored);
	else
		loop_timer_set(e->more, behind ? 0 : -1);
}

static void on_growth(void *data, uint32_t events)
{
	struct echo *e = data;
	char ignored[4096];
	(void)events;
	while (read(e->notify_fd, ignored, sizeof(ignored)) > 0)
		;
	echo_more(e);
}

static void on_writable(void *data, uint32_t events)
{
	(void)events;
	echo_more(data);
}

static void on_rested(void *data)
{
	struct echo *e = data;
	struct error ignored;
	e->resting = false;
	if (e->notify)
		loop_modify_fd(e->notify, EPOLLIN, &ignored);
}

static int watch_file(struct echo *e, struct error *err)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", e->file_fd);
	close_fdp(&e->notify_fd);
	e->notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (e->notify_fd < 0 || inotify_add_watch(e->notify_fd, path, IN_MODIFY) < 0)
		return error_set_errno(err, errno, "watch the log");
	e->notify = loop_add_fd(e->loop, e->notify_fd, EPOLLIN, on_growth, e, err);
	return e->notify ? 0 : -1;
}

static void on_turn(void *data)
{
	struct echo *e = data;
	struct error ignored;
	bool watched = e->notify || watch_file(e, &ignored) == 0;
	echo_more(e);
	if (!watched) // then by the clock
		loop_timer_set(e->more, WATCH_AFTER_MS);
}

int echo_start(struct echo *e, struct loop *loop, int dirfd, const char *path, int out_fd,
	struct error *err)
{
	*e = (struct echo){.loop = loop,
		.file_fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW),
		.notify_fd = -1,
		.out_fd = out_fd,
		.can_block = is_stream(out_fd)};
	if (e->file_fd < 0)
		return error_set_errno(err, errno, "open %s", path);
	e->more = loop_add_timer(loop, WATCH_AFTER_MS, on_turn, e, err);
	e->rest = loop_add_timer(loop, -1, on_rested, e, err);
	if (!e->more || !e->rest)
		return -1;
	if (!e->can_block)
		return 0;
	e->writable = loop_add_fd(loop, out_fd, 0, on_writable, e, err);
	if (!e->writable) { // what epoll does not take (/dev/null) does not make one wait either
		error_clear(err);
		e->can_block = false;
	}
	return 0;
}

void echo_finish(struct echo *e)
{
	if (e->loop)
		echo_turn(e, UINT64_MAX, true);
}

void echo_release(struct echo *e)
{
	if (!e->loop)
		return;
	loop_remove(e->notify);
	loop_remove(e->writable);
	loop_remove(e->more);
	loop_remove(e->rest);
	close_fdp(&e->file_fd);
	close_fdp(&e->notify_fd);
	*e = (struct echo){0};
}
