// SPDX-License-Identifier: Apache-2.0
#include "agent/job/output.h"

#include "base/file.h"

#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_SIZE = 64 * 1024, PIPE_SIZE = 1024 * 1024 };

int output_open(struct output *o, int dirfd, const char *path, int echo_fd, int *write_fd,
	struct error *err)
{
	int fds[2];
	cleanup_fd int file =
		openat(dirfd, path, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
	if (file < 0)
		return error_set_errno(err, errno, "make %s", path);
	if (pipe2(fds, O_CLOEXEC) < 0 || fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0)
		return error_set_errno(err, errno, "pipe");
	// Fewer, larger steps for scripts that print much; refused over the user's limit, which is
	// fine.
	fcntl(fds[0], F_SETPIPE_SZ, PIPE_SIZE);
	*o = (struct output){.pipe_fd = fds[0], .file_fd = steal_fd(&file), .echo_fd = echo_fd};
	*write_fd = fds[1];
	return 0;
}

// Does a write block for a slow reader? Files are always ready, and epoll does not take them.
static bool can_block(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode);
}

static bool is_writable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	return poll(&p, 1, 0) > 0;
}

// One piece. PIPE_BUF bytes are what a pipe that polls writable takes without blocking. The
// descriptor is not made non-blocking: it is shared with the shell that started us.
static void echo_piece(struct output *o)
{
	char piece[PIPE_BUF];
	ssize_t n = pread(o->file_fd, piece, sizeof(piece), (off_t)o->echoed);
	ssize_t written = n <= 0 ? -1 : write(o->echo_fd, piece, (size_t)n);
	if (written < 0 && (errno == EINTR || errno == EAGAIN) && n > 0)
		return;
	if (written <= 0) // the reader is gone; the file has it all
		o->echo_fd = -1;
	else
		o->echoed += (uint64_t)written;
}

static void watch_echo(struct output *o)
{
	struct error ignored; // without events there is still the next output, and the end
	bool behind = o->echo_fd >= 0 && o->echoed < o->size;
	if (o->echo_source)
		loop_modify_fd(o->echo_source, behind ? EPOLLOUT : 0, &ignored);
}

static void echo(struct output *o)
{
	bool block = o->echo_fd >= 0 && can_block(o->echo_fd);
	while (o->echo_fd >= 0 && o->echoed < o->size && (!block || is_writable(o->echo_fd)))
		echo_piece(o);
	if (o->echo_fd < 0) { // a closed one would wake the loop for ever
		loop_remove(o->echo_source);
		o->echo_source = NULL;
	}
	watch_echo(o);
}

static void keep(struct output *o, const char *data, size_t size)
{
	if (o->error.kind != ERROR_NONE)
		return; // read on, so that the script is not held up while it is stopped
	if (write_all(o->file_fd, data, size, "user_logs/std_log.txt", &o->error) < 0) {
		if (o->failed)
			o->failed(o->data);
		return;
	}
	o->size += size;
}

// Returns false when nothing is left (for now, or for ever).
static bool read_pipe(struct output *o)
{
	char data[READ_SIZE];
	ssize_t n = read(o->pipe_fd, data, sizeof(data));
	if (n > 0)
		keep(o, data, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		loop_remove(o->pipe_source);
		o->pipe_source = NULL;
		close(steal_fd(&o->pipe_fd));
	}
	return n > 0 || (n < 0 && errno == EINTR && o->pipe_fd >= 0);
}

// One read a turn, so that signals get theirs however much the script prints.
static void on_pipe(void *data, uint32_t events)
{
	struct output *o = data;
	(void)events;
	read_pipe(o);
	echo(o);
}

static void on_echo(void *data, uint32_t events)
{
	(void)events;
	echo(data);
}

int output_watch(struct output *o, struct loop *loop, struct error *err)
{
	o->pipe_source = loop_add_fd(loop, o->pipe_fd, EPOLLIN, on_pipe, o, err);
	if (!o->pipe_source)
		return -1;
	if (o->echo_fd < 0 || !can_block(o->echo_fd))
		return 0;
	o->echo_source = loop_add_fd(loop, o->echo_fd, 0, on_echo, o, err);
	if (o->echo_source)
		return 0;
	// What epoll does not take (/dev/null among them) does not make one wait either.
	error_clear(err);
	return 0;
}

int output_drain(struct output *o, struct error *err)
{
	while (o->pipe_fd >= 0 && read_pipe(o))
		;
	loop_remove(o->pipe_source);
	loop_remove(o->echo_source);
	o->pipe_source = o->echo_source = NULL;
	if (o->error.kind != ERROR_NONE) {
		*err = o->error;
		return -1;
	}
	return 0;
}

void output_finish_echo(struct output *o)
{
	while (o->echo_fd >= 0 && o->echoed < o->size) {
		struct pollfd p = {.fd = o->echo_fd, .events = POLLOUT};
		poll(&p, 1, -1);
		echo_piece(o);
	}
}

void output_close(struct output *o)
{
	loop_remove(o->pipe_source);
	loop_remove(o->echo_source);
	if (o->file_fd > 0)
		close(o->file_fd);
	if (o->pipe_fd > 0)
		close(o->pipe_fd);
	*o = (struct output){.pipe_fd = -1, .file_fd = -1, .echo_fd = -1};
}
