// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/control.h"

#include "agent/supervise/protocol.h"
#include "base/file.h"
#include "base/message.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { PEERS_MAX = 256, BACKLOG = 64 };

struct control_peer {
	struct control *control;
	struct control_peer *next, **back;
	struct loop_source *source;
	int fd;
	bool subscribed;
	void (*closed)(void *data); // NULL: nobody wants to know
	void *closed_data;
};

struct control {
	struct loop *loop;
	struct loop_source *source;
	int fd;
	struct control_peer *peers;
	size_t peer_count;
	control_fn *fn;
	void *data;
};

static void drop(struct control_peer *peer)
{
	if (peer->closed)
		peer->closed(peer->closed_data);
	loop_remove(peer->source);
	close(peer->fd);
	*peer->back = peer->next;
	if (peer->next)
		peer->next->back = peer->back;
	peer->control->peer_count--;
	free(peer);
}

// Never waits; a full queue is a peer that does not read, and the next event on it ends it.
static void send_text(struct control_peer *peer, const struct buffer *text, int fd)
{
	struct iovec part = {.iov_base = text->data, .iov_len = text->size};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} rights = {0};
	if (fd >= 0) {
		m.msg_control = &rights;
		m.msg_controllen = sizeof(rights);
		rights.header.cmsg_level = SOL_SOCKET;
		rights.header.cmsg_type = SCM_RIGHTS;
		rights.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&rights.header), &fd, sizeof(fd));
	}
	if (sendmsg(peer->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		shutdown(peer->fd, SHUT_RDWR);
}

void control_send_fd(struct control_peer *peer, struct json_writer *w, int fd)
{
	cleanup_buffer struct buffer b = {0};
	struct error ignored;
	if (json_writer_finish(w, &b, &ignored) == 0)
		send_text(peer, &b, fd);
	else
		shutdown(peer->fd, SHUT_RDWR);
}

void control_send(struct control_peer *peer, struct json_writer *w)
{
	control_send_fd(peer, w, -1);
}

void control_on_close(struct control_peer *peer, void (*fn)(void *data), void *data)
{
	peer->closed = fn;
	peer->closed_data = data;
}

void control_send_ok(struct control_peer *peer)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_member_bool(w, "ok", true);
	json_write_close_object(w);
	control_send(peer, w);
}

void control_send_error(struct control_peer *peer, const struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	json_write_open_object(w);
	json_write_key(w, "error");
	json_write_open_object(w);
	json_write_member(w, "kind", error_kind_name(err->kind));
	json_write_member(w, "text", err->text);
	json_write_close_object(w);
	json_write_close_object(w);
	control_send(peer, w);
}

void control_broadcast(struct control *c, struct json_writer *w)
{
	cleanup_buffer struct buffer b = {0};
	struct error ignored;
	if (json_writer_finish(w, &b, &ignored) < 0)
		return;
	for (struct control_peer *peer = c->peers; peer; peer = peer->next)
		if (peer->subscribed)
			send_text(peer, &b, -1);
}

void control_subscribe(struct control_peer *peer)
{
	peer->subscribed = true;
}

// false: the peer has left, or speaks no JSON.
static bool take_request(struct control_peer *peer)
{
	static const struct json_limits limits = {PROTOCOL_BYTES_MAX, 8, 10000};
	cleanup_arena struct arena a = {0};
	cleanup_free char *data = xmalloc(MESSAGE_MAX);
	int fds[CONTROL_FDS_MAX];
	struct error err = {0};
	ssize_t n = message_receive(peer->fd, data, MESSAGE_MAX, fds, CONTROL_FDS_MAX, true, &err);
	if (n == -2)
		return true;
	if (n <= 0)
		return false;
	const struct json *request = json_parse(&a, data, (size_t)n, "request", &limits, &err);
	if (request && request->type == JSON_OBJECT)
		peer->control->fn(peer->control->data, peer, request, fds);
	for (int i = 0; i < CONTROL_FDS_MAX; i++)
		close_fdp(&fds[i]);
	return request != NULL;
}

static void on_request(void *data, uint32_t events)
{
	struct control_peer *peer = data;
	(void)events;
	if (!take_request(peer))
		drop(peer);
}

struct control_peer *control_adopt(struct control *c, int fd, struct error *err)
{
	struct control_peer *peer = xcalloc(1, sizeof(*peer));
	*peer = (struct control_peer){
		.control = c, .fd = fd, .next = c->peers, .back = &c->peers, .subscribed = true};
	if (peer->next)
		peer->next->back = &peer->next;
	c->peers = peer;
	c->peer_count++;
	peer->source = loop_add_fd(c->loop, fd, EPOLLIN, on_request, peer, err);
	if (peer->source)
		return peer;
	drop(peer);
	return NULL;
}

// The folder is closed to others already; this holds whatever its mode became.
static bool is_allowed(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

static void on_connection(void *data, uint32_t events)
{
	struct control *c = data;
	struct error ignored;
	(void)events;
	cleanup_fd int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0 || !is_allowed(fd) || c->peer_count >= PEERS_MAX)
		return;
	struct control_peer *peer = control_adopt(c, steal_fd(&fd), &ignored);
	if (peer)
		peer->subscribed = false;
}

// By way of /proc: the folder's own path may be longer than a socket's address can be.
static int listen_in(int folder, int fd, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/control", folder);
	unlinkat(folder, "control", 0);
	mode_t before = umask(0177);
	int rc = bind(fd, (struct sockaddr *)&address, sizeof(address));
	int sys = errno;
	umask(before);
	if (rc < 0)
		return error_set_errno(err, sys, "make the control socket");
	if (listen(fd, BACKLOG) < 0)
		return error_set_errno(err, errno, "listen on the control socket");
	return 0;
}

struct control *control_new(
	struct loop *loop, int folder, control_fn *fn, void *data, struct error *err)
{
	cleanup_control struct control *c = xcalloc(1, sizeof(*c));
	*c = (struct control){.loop = loop, .fn = fn, .data = data};
	c->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0) {
		error_set_errno(err, errno, "socket");
		return NULL;
	}
	if (listen_in(folder, c->fd, err) < 0)
		return NULL;
	c->source = loop_add_fd(loop, c->fd, EPOLLIN, on_connection, c, err);
	return c->source ? steal(c) : NULL;
}

void control_free(struct control *c)
{
	if (!c)
		return;
	for (struct control_peer *peer = c->peers, *next; peer; peer = next) {
		next = peer->next;
		drop(peer);
	}
	loop_remove(c->source);
	close_fdp(&c->fd);
	free(c);
}
