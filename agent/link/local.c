// SPDX-License-Identifier: Apache-2.0
//
// <run>/agent.sock: HTTP/1.0, one short question at a time, for root and the user that the agent
// runs as. It is no server for strangers, and so has none of one's means: a head of 4 KiB, two
// seconds to say it and two to take the answer.
#include "agent/link/server.h"
#include "base/file.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

// TURN_MS: the longest that one turn of the loop may take, with a poll that is not answered.
enum { HEAD_MAX = 4096, PATIENCE_MS = 2000, BACKLOG = 16, TURN_MS = 180 * 1000 };

static const char name[] = "agent.sock";

// ---- questions

struct question {
	char method[8], path[64];
};

static bool is_allowed(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

// The first line of a head that is complete; what else is in it does not matter to us.
static bool read_question(int fd, struct question *q)
{
	char head[HEAD_MAX + 1];
	size_t size = 0;
	int64_t until = now_ms() + PATIENCE_MS;
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = until - now_ms();
		ssize_t n = left > 0 && size < HEAD_MAX && poll(&p, 1, (int)left) > 0
				    ? recv(fd, head + size, HEAD_MAX - size, MSG_DONTWAIT)
				    : -1;
		if (n <= 0)
			return false;
		size += (size_t)n;
		head[size] = '\0';
		if (strstr(head, "\r\n\r\n") || strstr(head, "\n\n"))
			break;
	}
	int end = 0;
	sscanf(head, "%7[A-Z] %63[!-~] HTTP/%n", q->method, q->path, &end);
	return end > 0;
}

static void answer(int fd, const char *status, const char *type, const struct buffer *body)
{
	cleanup_buffer struct buffer out = {0};
	int64_t until = now_ms() + PATIENCE_MS;
	buffer_printf(&out,
		"HTTP/1.0 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: "
		"close\r\n\r\n",
		status, type, body->size);
	if (body->size)
		buffer_append(&out, body->data, body->size);
	for (size_t at = 0; at < out.size;) {
		struct pollfd p = {.fd = fd, .events = POLLOUT};
		int64_t left = until - now_ms();
		ssize_t n = left > 0 && poll(&p, 1, (int)left) > 0
				    ? send(fd, out.data + at, out.size - at,
					      MSG_DONTWAIT | MSG_NOSIGNAL)
				    : -1;
		if (n < 0)
			return;
		at += (size_t)n;
	}
}

static void refuse(int fd, const char *status)
{
	cleanup_buffer struct buffer b = {0};
	buffer_printf(&b, "%s\n", status);
	answer(fd, status, "text/plain", &b);
}

static void set_drain(struct server *s, int fd, bool draining)
{
	cleanup_buffer struct buffer b = {0};
	struct error err;
	if (drain_set(s->link->store->state_fd, draining, &err) < 0) {
		log_error("drain: %s", err.text);
		refuse(fd, "500 the state directory cannot be written");
		return;
	}
	if (s->draining != draining)
		log_info("the node %s", draining ? "takes no new runs" : "takes runs again");
	s->draining = draining;
	eventfd_write(s->link->news, 1);
	local_status(s, &b);
	answer(fd, "200 OK", "application/json", &b);
}

static void give(
	struct server *s, int fd, void (*write)(struct server *, struct buffer *), const char *type)
{
	cleanup_buffer struct buffer b = {0};
	write(s, &b);
	answer(fd, "200 OK", type, &b);
}

// What was said and not read would take the answer away with it.
static void hear_out(int fd)
{
	char rest[HEAD_MAX];
	shutdown(fd, SHUT_WR);
	for (int i = 0; i < BACKLOG && recv(fd, rest, sizeof(rest), MSG_DONTWAIT) > 0; i++)
		;
}

static void serve_one(struct server *s, int fd)
{
	struct question q = {0};
	if (!is_allowed(fd)) {
		refuse(fd, "403 Forbidden");
		return;
	}
	if (!read_question(fd, &q)) {
		refuse(fd, "400 Bad Request");
		return;
	}
	bool get = streq(q.method, "GET"), post = streq(q.method, "POST");
	if (get && streq(q.path, "/metrics"))
		give(s, fd, local_metrics, "text/plain; version=0.0.4");
	else if (get && streq(q.path, "/status"))
		give(s, fd, local_status, "application/json");
	else if (post && (streq(q.path, "/drain") || streq(q.path, "/undrain")))
		set_drain(s, fd, streq(q.path, "/drain"));
	else
		refuse(fd, get || post ? "404 Not Found" : "405 Method Not Allowed");
}

// ---- the thread

// The service manager restarts an agent that hangs, so it must be the loop that is alive.
static void sign(struct server *s)
{
	if (now_ms() - s->turned_ms < TURN_MS)
		notify_send("WATCHDOG=1");
}

static void *local_main(void *data)
{
	struct server *s = data;
	int64_t interval = notify_interval(INT32_MAX);
	for (;;) {
		struct pollfd p = {.fd = s->socket, .events = POLLIN};
		if (poll(&p, 1, interval < INT32_MAX ? (int)interval : -1) <= 0) {
			sign(s);
			continue;
		}
		if (p.revents & (POLLHUP | POLLERR | POLLNVAL)) // local_stop()
			return NULL;
		cleanup_fd int fd = accept4(s->socket, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0) {
			serve_one(s, fd);
			hear_out(fd);
		}
		sign(s);
	}
}

int local_start(struct server *s, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int run_fd = s->link->store->run_fd;
	// By the folder's descriptor: the path may be longer than an address has room for.
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", run_fd, name);
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set_errno(err, errno, "socket");
	unlinkat(run_fd, name, 0);
	// The run directory is for others to enter; the socket never was.
	mode_t mask = umask(0177);
	int rc = bind(fd, (struct sockaddr *)&address, sizeof(address));
	umask(mask);
	if (rc < 0 || listen(fd, BACKLOG) < 0)
		return error_set_errno(err, errno, "listen on %s", name);
	s->socket = steal_fd(&fd);
	if (pthread_create(&s->local, NULL, local_main, s) != 0)
		return error_set(err, ERROR_SYSTEM, "no thread");
	return 0;
}

void local_stop(struct server *s)
{
	shutdown(s->socket, SHUT_RDWR);
	pthread_join(s->local, NULL);
	unlinkat(s->link->store->run_fd, name, 0);
}
