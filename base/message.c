// SPDX-License-Identifier: Apache-2.0
#include "base/message.h"

#include "base/file.h"

#include <assert.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

// Aligned room for one SCM_RIGHTS header with all descriptors.
union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(MESSAGE_FDS * sizeof(int))];
};

int message_pair(int fds[2], struct error *err)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set_errno(err, errno, "socketpair");
	fds[0] = pair[0];
	fds[1] = pair[1];
	return 0;
}

// A descriptor that somebody made non-blocking (an event loop does) still blocks here.
static void wait_for(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	poll(&p, 1, -1); // whatever it says, the next system call tells
}

int message_send(
	int fd, const void *data, size_t size, const int *fds, size_t fd_count, struct error *err)
{
	// An empty packet would read as the end at the other side.
	assert(size > 0 && size <= MESSAGE_MAX && fd_count <= MESSAGE_FDS);
	struct iovec part = {.iov_base = (void *)data, .iov_len = size};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
	union control control = {0};
	if (fd_count) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
	}
	for (;;) {
		if (sendmsg(fd, &m, MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno == EAGAIN) {
			wait_for(fd, POLLOUT);
			continue;
		}
		if (errno == EINTR)
			continue;
		int sys = errno;
		error_set_errno(err, sys, "send a message of %zu bytes", size);
		if (sys == EPIPE || sys == ECONNRESET || sys == ENOTCONN || sys == ECONNREFUSED)
			err->kind = ERROR_UNAVAILABLE;
		return -1;
	}
}

// Move the descriptors of one header into `fds`; what does not fit is closed. Returns how many
// came.
static size_t take_descriptors(
	const struct cmsghdr *c, int *fds, size_t fd_capacity, size_t already)
{
	size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	for (size_t i = 0; i < count; i++) {
		int fd;
		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
		if (already + i < fd_capacity)
			fds[already + i] = fd;
		else
			close_fdp(&fd);
	}
	return count;
}

static ssize_t receive_packet(int fd, struct msghdr *m, bool nonblocking)
{
	for (;;) {
		ssize_t n = recvmsg(fd, m, MSG_CMSG_CLOEXEC | (nonblocking ? MSG_DONTWAIT : 0));
		if (n >= 0)
			return n;
		if (errno == EAGAIN && !nonblocking)
			wait_for(fd, POLLIN);
		// ECONNRESET is told once, when the peer closed without reading all of ours;
		// packets of its own may still wait behind it.
		else if (errno != EINTR && errno != ECONNRESET)
			return -1;
	}
}

ssize_t message_receive(int fd, void *data, size_t capacity, int *fds, size_t fd_capacity,
	bool nonblocking, struct error *err)
{
	struct iovec part = {.iov_base = data, .iov_len = capacity};
	union control control = {0};
	struct msghdr m = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	for (size_t i = 0; i < fd_capacity; i++)
		fds[i] = -1;
	ssize_t n = receive_packet(fd, &m, nonblocking);
	if (n < 0 && errno == EAGAIN)
		return -2;
	if (n < 0)
		return error_set_errno(err, errno, "receive a message");
	size_t count = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			count += take_descriptors(c, fds, fd_capacity, count);
	bool refused = m.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || count > fd_capacity;
	for (size_t i = 0; i < fd_capacity && (refused || n == 0); i++) {
		close_fdp(&fds[i]);
		fds[i] = -1;
	}
	if (m.msg_flags & MSG_TRUNC)
		return error_set(err, ERROR_INVALID, "message: larger than %zu bytes", capacity);
	if (refused)
		return error_set(err, ERROR_INVALID, "message: carries more than %zu descriptors",
			fd_capacity);
	return n;
}
