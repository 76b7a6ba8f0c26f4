// SPDX-License-Identifier: Apache-2.0
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/route.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PATIENCE_MS = 1500 };

static int connect_within(int fd, const struct sockaddr *address, socklen_t size)
{
	if (connect(fd, address, size) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -1;
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int sys = ETIMEDOUT;
	socklen_t length = sizeof(sys);
	if (poll(&p, 1, PATIENCE_MS) > 0)
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &sys, &length);
	errno = sys;
	return sys ? -1 : 0;
}

// A user-mode network may accept first and then find that there is nobody; a listener of the test's
// sends something.
static void try_stream(int family, const void *address, socklen_t size, const char *name)
{
	char c;
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc = fd < 0 ? -1 : connect_within(fd, address, size);
	if (rc == 0) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		poll(&p, 1, PATIENCE_MS);
		ssize_t n = read(fd, &c, 1);
		if (n == 0)
			errno = ECONNRESET;
		rc = n == 1 ? 0 : -1;
	}
	verdict(rc, "connect to %s", name);
	if (fd >= 0)
		close(fd);
}

static void try_address(const char *text, unsigned short port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
		try_stream(AF_INET, &in, sizeof(in), text);
	else if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1)
		try_stream(AF_INET6, &in6, sizeof(in6), text);
	else
		escaped("%s is no address", text);
}

static void try_unix(const char *name)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t n = strlen(name);
	memcpy(un.sun_path, name, n);
	un.sun_path[0] = '\0'; // "@name": no file
	try_stream(AF_UNIX, &un, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n), name);
}

// The address that a user-mode network gives the node is often that of the route.
static void try_gateway(unsigned short port)
{
	char line[256], text[INET_ADDRSTRLEN];
	FILE *f = fopen("/proc/net/route", "re");
	while (f && fgets(line, sizeof(line), f)) {
		// "eth0 00000000 0200A8C0 …": name, destination, gateway
		char *end = line + strcspn(line, "\t");
		unsigned long destination = strtoul(end, &end, 16);
		struct in_addr gateway = {.s_addr = (in_addr_t)strtoul(end, NULL, 16)};
		if (destination != 0 || gateway.s_addr == 0)
			continue;
		inet_ntop(AF_INET, &gateway, text, sizeof(text));
		printf("gateway %s\n", text);
		try_address(text, port);
	}
	if (f)
		fclose(f);
}

// PORT ADDRESS…: where something listens on the node; "@name" is an abstract socket.
void probe_connect(int argc, char **argv)
{
	unsigned short port = (unsigned short)number(argv[0]);
	for (int i = 1; i < argc; i++)
		if (argv[i][0] == '@')
			try_unix(argv[i]);
		else
			try_address(argv[i], port);
	try_gateway(port);
	// Whatever leads to the machine below knows no network namespace.
	verdict(socket(AF_VSOCK, SOCK_STREAM, 0), "a socket to the machine below");
	verdict(socket(AF_ALG, SOCK_SEQPACKET, 0), "a socket to the kernel's ciphers");
}
