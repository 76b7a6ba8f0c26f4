// SPDX-License-Identifier: Apache-2.0
#include "agent/command/relay.h"

#include "base/file.h"

#include <limits.h>
#include <poll.h>
#include <unistd.h>

static bool is_ready(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	return poll(&p, 1, 0) > 0;
}

void relay_stop(struct relay *r)
{
	if (!r->loop || r->ended)
		return;
	r->ended = true;
	loop_remove(r->in);
	loop_remove(r->out);
	r->in = r->out = NULL;
	if (r->own_in)
		close(r->in_fd);
	if (r->own_out)
		close(r->out_fd);
	if (r->end)
		r->end(r->data);
}

// One or the other side is waited for.
static void arm(struct relay *r)
{
	struct error ignored;
	bool writing = r->filled > r->at;
	if (r->in)
		loop_modify_fd(r->in, writing ? 0 : EPOLLIN, &ignored);
	if (r->out)
		loop_modify_fd(r->out, writing ? EPOLLOUT : 0, &ignored);
}

// false: the end, or nobody reads. PIPE_BUF bytes are what a pipe that polls writable takes.
static bool write_piece(struct relay *r)
{
	size_t left = r->filled - r->at;
	ssize_t n = write(r->out_fd, r->buffer + r->at, left > PIPE_BUF ? PIPE_BUF : left);
	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	r->at += (size_t)n;
	return true;
}

static bool read_piece(struct relay *r)
{
	ssize_t n = read(r->in_fd, r->buffer, sizeof(r->buffer));
	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	r->at = 0;
	r->filled = (size_t)n;
	return n > 0;
}

static void on_readable(void *data, uint32_t events)
{
	struct relay *r = data;
	(void)events;
	if (r->filled > r->at)
		return;
	if (!read_piece(r)) {
		relay_stop(r);
		return;
	}
	// A file takes it at once.
	while (!r->out && r->filled > r->at)
		if (!write_piece(r)) {
			relay_stop(r);
			return;
		}
	arm(r);
}

static void on_writable(void *data, uint32_t events)
{
	struct relay *r = data;
	(void)events;
	if (r->filled == r->at) {
		relay_stop(r); // only its end is told unasked
		return;
	}
	if (!write_piece(r)) {
		relay_stop(r);
		return;
	}
	arm(r);
}

int relay_start(struct relay *r, struct loop *loop, struct error *err)
{
	r->loop = loop;
	r->in = loop_add_fd(loop, r->in_fd, EPOLLIN, on_readable, r, err);
	if (!r->in)
		return error_context(err, "input");
	struct error ignored;
	r->out = loop_add_fd(loop, r->out_fd, 0, on_writable, r, &ignored);
	return 0;
}

void relay_finish(struct relay *r)
{
	while (r->loop && !r->ended) {
		while (r->filled > r->at) {
			struct pollfd p = {.fd = r->out_fd, .events = POLLOUT};
			if (poll(&p, 1, -1) > 0 && !write_piece(r)) {
				relay_stop(r);
				return;
			}
		}
		if (!is_ready(r->in_fd, POLLIN) || !read_piece(r))
			relay_stop(r);
	}
}
