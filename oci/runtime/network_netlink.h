// SPDX-License-Identifier: Apache-2.0
//
// Requests to rtnetlink(7): gathered in a buffer of fixed size, sent at once, answered one by one.
// Only system calls, so that it can be used between fork and exec.
#pragma once

#include "base/error.h"

#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>

enum { NETLINK_BYTES = 8192, NETLINK_REQUESTS = 64 };

struct netlink {
	_Alignas(NLMSG_ALIGNTO) char bytes[NETLINK_BYTES];
	size_t size;
	size_t message;			    // where the one begins that is being written
	const char *what[NETLINK_REQUESTS]; // for errors; NULL: may fail
	unsigned count;
};

// Begin a request; `header` (struct ifinfomsg, …) follows the message's own. `what`: "set the
// address", for the error; NULL: its failure does not matter.
void netlink_begin(struct netlink *n, uint16_t type, uint16_t flags, const void *header,
	size_t size, const char *what);
void netlink_put(struct netlink *n, uint16_t type, const void *data, size_t size);
void netlink_put_u32(struct netlink *n, uint16_t type, uint32_t value);
// Returns where it begins, for netlink_close().
size_t netlink_open(struct netlink *n, uint16_t type);
void netlink_close(struct netlink *n, size_t from);

// A socket in this network namespace, a member of these groups (RTMGRP_…).
int netlink_socket(uint32_t groups, struct error *err);
// Send all and read every answer.
int netlink_run(struct netlink *n, struct error *err);
