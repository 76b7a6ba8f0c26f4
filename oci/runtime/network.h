// SPDX-License-Identifier: Apache-2.0
//
// The network of a container in a namespace of its own: nothing (the loopback interface only), or
// user-mode networking by a helper program (pasta, else slirp4netns), which reaches out as an
// ordinary program of the node would and lets nothing in. The node's loopback addresses and
// link-local ones (where clouds keep credentials: 169.254.169.254, fd00:ec2::254) are not reachable
// through it.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "base/process.h"

#include <stdbool.h>

// Bring the loopback interface of this network namespace up. Only system calls.
int network_loopback_up(struct error *err);

// What is decided before the container is made, because its resolv.conf is written then.
struct network_plan {
	const char *program; // "pasta", "slirp4netns": the first that can be used here
	bool ipv6;
	char resolver[2][64]; // where the program forwards name queries from; "" if none
};
// ERROR_NOT_FOUND, naming the packages, where neither program is installed.
int network_plan(struct network_plan *plan, struct error *err);
// The container's resolv.conf: that of the node (text), with loopback and link-local servers, which
// are not reachable from inside, replaced by the forwarder.
int network_resolv_conf(
	const struct network_plan *plan, const char *node, struct buffer *out, struct error *err);

struct network {
	struct process helper; // ends by itself with the namespace; killed by network_release()
};

// Start the program on the namespaces of the container (userns_fd: that owns netns_fd; -1: ours)
// and wait until the interface is up. It runs confined: no capabilities but over the container's
// namespaces, no file system, and dies with us.
int network_start(const struct network_plan *plan, int netns_fd, int userns_fd, struct network *n,
	struct error *err);
void network_release(struct network *n); // fine on a zeroed one
