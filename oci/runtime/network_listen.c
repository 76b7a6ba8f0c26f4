// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"
#include "base/message.h"
#include "oci/runtime/network_internal.h"

#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BACKLOG = 128 };

// Between fork and the end: system calls only.
static int listen_inside(int netns_fd, int userns_fd, uint16_t port, struct error *err)
{
	static const int on = 1;
	const struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	// Root of the node may go straight there; another user only by way of the container's root.
	if (setns(netns_fd, CLONE_NEWNET) < 0 &&
		(userns_fd < 0 || setns(userns_fd, CLONE_NEWUSER) < 0 ||
			setns(netns_fd, CLONE_NEWNET) < 0))
		return error_set_errno(err, errno, "enter the container's network namespace");
	cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	// IP_FREEBIND: the container brings its loopback interface up when it likes.
	if (fd < 0 || setsockopt(fd, SOL_IP, IP_FREEBIND, &on, sizeof(on)) < 0 ||
		bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(fd, BACKLOG) < 0)
		return error_set_errno(
			err, errno, "listen on 127.0.0.1:%u in the container", (unsigned)port);
	return steal_fd(&fd);
}

static void child(int netns_fd, int userns_fd, uint16_t port, int socket_fd)
{
	struct error err = {0}, unsent;
	int fd = listen_inside(netns_fd, userns_fd, port, &err);
	_exit(message_send(socket_fd, &err, sizeof(err), &fd, fd < 0 ? 0 : 1, &unsent) < 0);
}

int network_listen(int netns_fd, int userns_fd, uint16_t port, struct error *err)
{
	struct error report;
	int pair[2], status, fd = -1;
	if (message_pair(pair, err) < 0)
		return -1;
	cleanup_fd int ours = pair[0], theirs = pair[1];
	pid_t pid = fork();
	if (pid < 0)
		return error_set_errno(err, errno, "fork");
	if (pid == 0)
		child(netns_fd, userns_fd, port, theirs);
	close_fdp(&theirs);
	theirs = -1;
	ssize_t n = message_receive(ours, &report, sizeof(report), &fd, 1, false, err);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (n < 0)
		return -1;
	if (n != sizeof(report))
		return error_set(err, ERROR_SYSTEM, "what was to listen in the container is gone");
	if (fd < 0)
		*err = report;
	return fd;
}
