// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/client.h"

#include "agent/supervise/protocol.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/message.h"
#include "base/text.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int make_request(
	const struct job *job, const struct supervise_settings *settings, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	cleanup_fd int fd = memfd_create("job", MFD_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "memfd_create");
	supervise_request_pack(job, settings, &b);
	int rc = write_all(fd, b.data, b.size, "the job", err);
	explicit_bzero(b.data, b.size);
	if (rc < 0)
		return -1;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_set_errno(err, errno, "rewind the job");
	return steal_fd(&fd);
}

static int start_process(const char *run_id, struct supervise_link *link, struct error *err)
{
	int pair[2];
	if (message_pair(pair, err) < 0)
		return -1;
	cleanup_fd int ours = pair[0], theirs = pair[1];
	// What ps(1) shows.
	const char *const argv[] = {"stoker:", "supervisor", run_id, NULL};
	const struct process_fd fds[] = {{theirs, SUPERVISE_LINK_FD}};
	const struct process_options o = {
		.argv = argv, .fds = fds, .fd_count = 1, .new_session = true};
	if (process_start(&o, &link->process, err) < 0)
		return -1;
	link->fd = steal_fd(&ours);
	return 0;
}

int supervise_start(const struct job *job, const struct supervise_settings *settings,
	struct supervise_link *link, struct error *err)
{
	*link = (struct supervise_link){.process.pidfd = -1, .fd = -1};
	cleanup_fd int request = make_request(job, settings, err);
	if (request < 0 || start_process(job->run->id, link, err) < 0)
		return error_context(err, "start the supervisor");
	// The text says which of the last two come: "i", "l".
	int fds[4] = {request, job->run->lock_fd};
	char text[3] = "";
	size_t n = 0;
	if (job->stdin_fd >= 0) {
		fds[2 + n] = job->stdin_fd;
		text[n++] = SUPERVISE_HAS_INPUT;
	}
	if (job->listen_fd >= 0) {
		fds[2 + n] = job->listen_fd;
		text[n++] = SUPERVISE_HAS_LISTENER;
	}
	if (message_send(link->fd, text, sizeof(text), fds, 2 + n, err) < 0) {
		supervise_link_release(link);
		return error_context(err, "start the supervisor");
	}
	return 0;
}

void supervise_link_release(struct supervise_link *link)
{
	if (link->fd > 0)
		close(link->fd);
	if (link->process.pid > 0)
		close_fdp(&link->process.pidfd);
	*link = (struct supervise_link){.process.pidfd = -1, .fd = -1};
}

static int no_supervisor(const char *run_id, struct error *err)
{
	return error_set(err, ERROR_NOT_FOUND, "run %s has no supervisor", run_id);
}

int supervise_connect(struct store *s, const char *run_id, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	cleanup_free char *name = xasprintf("runs/%s", run_id);
	cleanup_fd int folder = openat(s->run_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0 && errno == ENOENT)
		return no_supervisor(run_id, err);
	cleanup_fd int fd = folder < 0 ? -1 : socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set_errno(err, errno, "supervisor of %s", run_id);
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/control", folder);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return steal_fd(&fd);
	return errno == ENOENT || errno == ECONNREFUSED
		       ? no_supervisor(run_id, err)
		       : error_set_errno(err, errno, "supervisor of %s", run_id);
}

static int receive(int fd, struct arena *a, bool nonblocking, int *received,
	const struct json **message, struct error *err)
{
	cleanup_free char *data = xmalloc(MESSAGE_MAX);
	ssize_t n = message_receive(
		fd, data, MESSAGE_MAX, received, received ? 1 : 0, nonblocking, err);
	if (n <= 0)
		return (int)n;
	*message = json_parse(a, data, (size_t)n, "supervisor", NULL, err);
	return *message ? 1 : -1;
}

int supervise_receive(
	int fd, struct arena *a, bool nonblocking, const struct json **message, struct error *err)
{
	return receive(fd, a, nonblocking, NULL, message, err);
}

static int send_request(
	int fd, struct json_writer *request, const int *fds, size_t fd_count, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	int rc = json_writer_finish(request, &b, err);
	json_writer_free(request);
	if (rc < 0)
		return -1;
	if (b.size > PROTOCOL_BYTES_MAX)
		return error_set(err, ERROR_LIMIT, "a request of %zu bytes; at most %d can be sent",
			b.size, PROTOCOL_BYTES_MAX);
	return message_send(fd, b.data, b.size, fds, fd_count, err);
}

int supervise_send(int fd, struct json_writer *request, struct error *err)
{
	return send_request(fd, request, NULL, 0, err);
}

static int error_of(const struct json *reply, struct error *err)
{
	const struct json *error = json_get(reply, "error");
	const char *kind = json_get_string(error, "kind"), *text = json_get_string(error, "text");
	if (!error || error->type != JSON_OBJECT)
		return 0;
	for (int i = ERROR_INVALID; i <= ERROR_SYSTEM; i++)
		if (kind && streq(kind, error_kind_name((enum error_kind)i)))
			return error_set(err, (enum error_kind)i, "%s", text ? text : "");
	return error_set(err, ERROR_SYSTEM, "%s", text ? text : "the supervisor failed");
}

int supervise_call_fds(int fd, struct json_writer *request, const struct supervise_request_fds *fds,
	struct arena *a, const struct json **reply, struct error *err)
{
	const struct json *message = NULL;
	if (send_request(fd, request, fds->send, fds->send_count, err) < 0)
		return -1;
	// Events may come before the answer.
	for (;;) {
		int rc = receive(fd, a, false, fds->received, &message, err);
		if (rc < 0)
			return -1;
		if (rc == 0)
			return error_set(err, ERROR_UNAVAILABLE, "the supervisor has ended");
		if (!json_get(message, "event"))
			break;
	}
	if (reply)
		*reply = message;
	return error_of(message, err);
}

int supervise_call(int fd, struct json_writer *request, struct arena *a, const struct json **reply,
	struct error *err)
{
	return supervise_call_fds(fd, request, &(struct supervise_request_fds){0}, a, reply, err);
}

struct json_writer *supervise_request_of(const char *what, const char *by)
{
	struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "do", what);
	if (by)
		json_write_member(w, "by", by);
	json_write_close_object(w);
	return w;
}

struct json_writer *supervise_stop_request(const char *by, int signo, int64_t grace_ms)
{
	struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "do", "stop");
	json_write_member(w, "by", by);
	json_write_member_int(w, "signal", signo);
	json_write_member_int(w, "grace_ms", grace_ms);
	json_write_close_object(w);
	return w;
}

struct json_writer *supervise_signal_request(int signo)
{
	struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member(w, "do", "signal");
	json_write_member_int(w, "signal", signo);
	json_write_close_object(w);
	return w;
}
