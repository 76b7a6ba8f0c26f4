// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/network_netlink.h"

#include "base/file.h"

#include <assert.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void append(struct netlink *n, const void *data, size_t size)
{
	size_t whole = NLMSG_ALIGN(size);
	assert(n->size + whole <= sizeof(n->bytes));
	memset(n->bytes + n->size, 0, whole);
	if (size)
		memcpy(n->bytes + n->size, data, size);
	n->size += whole;
	if (n->count)
		((struct nlmsghdr *)(void *)(n->bytes + n->message))->nlmsg_len =
			(uint32_t)(n->size - n->message);
}

void netlink_begin(struct netlink *n, uint16_t type, uint16_t flags, const void *header,
	size_t size, const char *what)
{
	assert(n->count < NETLINK_REQUESTS);
	struct nlmsghdr h = {.nlmsg_type = type,
		.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags),
		.nlmsg_seq = n->count};
	n->message = n->size;
	n->what[n->count++] = what;
	append(n, &h, sizeof(h));
	append(n, header, size);
}

void netlink_put(struct netlink *n, uint16_t type, const void *data, size_t size)
{
	struct rtattr a = {.rta_type = type, .rta_len = (uint16_t)RTA_LENGTH(size)};
	append(n, &a, sizeof(a));
	append(n, data, size);
}

void netlink_put_u32(struct netlink *n, uint16_t type, uint32_t value)
{
	netlink_put(n, type, &value, sizeof(value));
}

size_t netlink_open(struct netlink *n, uint16_t type)
{
	size_t from = n->size;
	netlink_put(n, type, NULL, 0);
	return from;
}

void netlink_close(struct netlink *n, size_t from)
{
	((struct rtattr *)(void *)(n->bytes + from))->rta_len = (uint16_t)(n->size - from);
}

int netlink_socket(uint32_t groups, struct error *err)
{
	cleanup_fd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct sockaddr_nl self = {.nl_family = AF_NETLINK, .nl_groups = groups};
	if (fd < 0 || bind(fd, (struct sockaddr *)&self, sizeof(self)) < 0)
		return error_set_errno(err, errno, "netlink");
	return steal_fd(&fd);
}

static int check(const struct netlink *n, const struct nlmsgerr *answer, struct error *err)
{
	unsigned i = answer->msg.nlmsg_seq;
	if (answer->error == 0 || i >= n->count || !n->what[i])
		return 0;
	return error_set_errno(err, -answer->error, "%s", n->what[i]);
}

int netlink_run(struct netlink *n, struct error *err)
{
	cleanup_fd int fd = netlink_socket(0, err);
	if (fd < 0)
		return -1;
	if (send(fd, n->bytes, n->size, 0) != (ssize_t)n->size)
		return error_set_errno(err, errno, "netlink: send");
	for (unsigned answered = 0; answered < n->count;) {
		_Alignas(NLMSG_ALIGNTO) char answers[4096];
		ssize_t size = recv(fd, answers, sizeof(answers), 0);
		if (size < 0)
			return error_set_errno(err, errno, "netlink: receive");
		size_t left = (size_t)size;
		for (struct nlmsghdr *h = (void *)answers; NLMSG_OK(h, left);
			h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type != NLMSG_ERROR)
				continue;
			answered++;
			if (check(n, NLMSG_DATA(h), err) < 0)
				return -1;
		}
	}
	return 0;
}
