// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/output.h"

#include "base/file.h"

#include <unistd.h>

enum { READ_SIZE = 64 * 1024 };

int output_open(struct output *o, int dirfd, const char *path, int pipe_fd, struct error *err)
{
	*o = (struct output){.pipe_fd = pipe_fd};
	o->file_fd = openat(dirfd, path, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
	return o->file_fd < 0 ? error_set_errno(err, errno, "make %s", path) : 0;
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
		loop_remove(o->source);
		o->source = NULL;
		close(steal_fd(&o->pipe_fd));
	}
	return n > 0 || (n < 0 && errno == EINTR && o->pipe_fd >= 0);
}

// One read a turn, so that others get theirs however much the script prints.
static void on_pipe(void *data, uint32_t events)
{
	(void)events;
	read_pipe(data);
}

int output_watch(struct output *o, struct loop *loop, struct error *err)
{
	o->source = loop_add_fd(loop, o->pipe_fd, EPOLLIN, on_pipe, o, err);
	return o->source ? 0 : -1;
}

int output_drain(struct output *o, struct error *err)
{
	while (o->pipe_fd >= 0 && read_pipe(o))
		;
	loop_remove(o->source);
	o->source = NULL;
	if (o->error.kind != ERROR_NONE) {
		*err = o->error;
		return -1;
	}
	return 0;
}

void output_close(struct output *o)
{
	loop_remove(o->source);
	if (o->file_fd > 0)
		close(o->file_fd);
	if (o->pipe_fd > 0)
		close(o->pipe_fd);
	*o = (struct output){.pipe_fd = -1, .file_fd = -1};
}
