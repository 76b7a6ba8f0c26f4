// SPDX-License-Identifier: Apache-2.0
//
// process_run() of base/process.h.
#include "base/file.h"
#include "base/process.h"
#include "base/time.h"

#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READ_STEP = 64 * 1024, STDERR_KEPT = 8 * 1024, STDERR_SHOWN = 300 };

struct stream {
	int fd; // our end, non-blocking; -1 after its end
	struct buffer *buffer;
	size_t most;	// bytes that may be added
	bool keep_tail; // what is too much falls away in front, instead of being an error
};

struct run {
	const struct process_run_options *o;
	const char *name;
	struct process process;
	struct stream streams[2]; // stdout, stderr
	int64_t deadline;	  // now_ms(); -1: none
};

// A pipe whose reading end does not block.
static int make_pipe(int *read_end, int *write_end, struct error *err)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "pipe");
	*read_end = fds[0];
	*write_end = fds[1];
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	return 0;
}

// The input lies in an anonymous file: whatever its size, and whether or not the child reads it,
// there is nobody to wait for and no SIGPIPE.
static int make_input(const char *input, struct error *err)
{
	cleanup_fd int fd = memfd_create("input", MFD_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "memfd_create");
	if (write_all(fd, input, strlen(input), "input", err) < 0)
		return -1;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_set_errno(err, errno, "rewind the input");
	return steal_fd(&fd);
}

// Take what is there. 0: nothing more now, or the end; -1: too much or an error.
static int drain(struct run *r, struct stream *s, struct error *err)
{
	while (s->fd >= 0) {
		ssize_t n = read(s->fd, buffer_reserve(s->buffer, READ_STEP), READ_STEP);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return error_set_errno(err, errno, "read from %s", r->name);
		if (n == 0) {
			close_fdp(&s->fd);
			s->fd = -1;
			return 0;
		}
		if (!s->keep_tail && (size_t)n > s->most)
			return error_set(err, ERROR_LIMIT,
				"%s: wrote more than the limit of %zu bytes", r->name, r->o->limit);
		buffer_commit(s->buffer, (size_t)n);
		s->most -= s->keep_tail ? 0 : (size_t)n;
		if (s->keep_tail && s->buffer->size > s->most)
			buffer_consume(s->buffer, s->buffer->size - s->most);
	}
	return 0;
}

static int wait_ms(const struct run *r)
{
	if (r->deadline < 0)
		return -1;
	int64_t ms = r->deadline - now_ms();
	return ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

// Until the child has ended. Not until its pipes have: something it left behind may hold them open.
static int follow(struct run *r, struct error *err)
{
	for (bool ended = false; !ended;) {
		struct pollfd polls[3] = {
			{.fd = r->streams[0].fd, .events = POLLIN},
			{.fd = r->streams[1].fd, .events = POLLIN},
			{.fd = r->process.pidfd, .events = POLLIN},
		};
		if (poll(polls, 3, wait_ms(r)) < 0 && errno != EINTR)
			return error_set_errno(err, errno, "poll");
		ended = polls[2].revents != 0;
		if (drain(r, &r->streams[0], err) < 0 || drain(r, &r->streams[1], err) < 0)
			return -1;
		if (!ended && r->deadline >= 0 && now_ms() >= r->deadline)
			return error_set(err, ERROR_LIMIT, "%s: took longer than %d ms", r->name,
				r->o->timeout_ms);
	}
	return 0;
}

// The last lines of what the program wrote to stderr, in one line.
static const char *tail_of(struct buffer *b)
{
	while (b->size && strchr(" \t\r\n", b->data[b->size - 1]))
		b->data[--b->size] = '\0';
	if (!b->size)
		return "";
	char *text = b->data;
	if (b->size > STDERR_SHOWN) {
		text += b->size - STDERR_SHOWN;
		char *line = strchr(text, '\n');
		text = line ? line + 1 : text;
	}
	for (char *p = text; *p; p++)
		if (*p == '\n')
			*p = ' ';
	return text;
}

static int finish(struct run *r, struct error *err)
{
	int status;
	char how[64];
	if (process_wait(&r->process, &status, err) < 0)
		return -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	const char *said = tail_of(r->streams[1].buffer);
	return error_set(err, ERROR_SYSTEM, "%s %s%s%s", r->name,
		process_describe_status(status, how), *said ? ": " : "", said);
}

static int start(struct run *r, int input, struct error *err)
{
	cleanup_fd int output = -1;
	cleanup_fd int errors = -1;
	if (make_pipe(&r->streams[0].fd, &output, err) < 0 ||
		make_pipe(&r->streams[1].fd, &errors, err) < 0)
		return -1;
	const struct process_fd fds[] = {{output, 1}, {errors, 2}, {input, 0}};
	const struct process_options o = {.file = r->o->file ? r->o->file : r->o->argv[0],
		.argv = r->o->argv,
		.envp = r->o->envp,
		.fds = fds,
		.fd_count = input < 0 ? 2 : 3,
		.die_with_parent = true};
	return process_start(&o, &r->process, err);
}

static int run_all(struct run *r, struct error *err)
{
	cleanup_fd int in = -1;
	if (r->o->input && (in = make_input(r->o->input, err)) < 0)
		return -1;
	if (start(r, in, err) < 0 || follow(r, err) < 0)
		return -1;
	return finish(r, err);
}

int process_run_with(const struct process_run_options *o, struct buffer *output, struct error *err)
{
	cleanup_buffer struct buffer errors = {0};
	size_t before = output->size;
	struct run r = {.o = o,
		.name = path_base(o->file ? o->file : o->argv[0]),
		.process = {.pidfd = -1},
		.streams = {{.fd = -1, .buffer = output, .most = o->limit},
			{.fd = -1, .buffer = &errors, .most = STDERR_KEPT, .keep_tail = true}},
		.deadline = o->timeout_ms > 0 ? now_ms() + o->timeout_ms : -1};
	int result = run_all(&r, err);
	process_release(&r.process);
	close_fdp(&r.streams[0].fd);
	close_fdp(&r.streams[1].fd);
	if (result < 0 && output->data) {
		output->size = before;
		output->data[before] = '\0';
	}
	return result;
}

int process_run(const char *const *argv, const char *input, struct buffer *output, size_t limit,
	int timeout_ms, struct error *err)
{
	const struct process_run_options o = {
		.argv = argv, .input = input, .limit = limit, .timeout_ms = timeout_ms};
	return process_run_with(&o, output, err);
}
