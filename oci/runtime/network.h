// SPDX-License-Identifier: Apache-2.0
//
// The network of a container in a namespace of its own: nothing (the loopback interface only), or
// user-mode networking by a helper program (pasta, else slirp4netns), which reaches out as an
// ordinary program of the node would and lets nothing in. The node's loopback addresses and
// link-local ones (where clouds keep credentials: 169.254.169.254, fd00:ec2::254) are not reachable
// through it. It works on a node without any network, too: there it leads nowhere.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "base/process.h"

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

// Bring the loopback interface of this network namespace up. Only system calls.
int network_loopback_up(struct error *err);

// What is decided before the container is made, because its resolv.conf is written then.
struct network_plan {
	const char *program;	     // "pasta", "slirp4netns": the first that is installed
	bool ipv6;		     // the node has a default route for it, and the program can
	char interface[IF_NAMESIZE]; // of the node: the one with that route, else "lo"
	// Where the program takes name queries, for servers of the node that are not reachable from
	// inside: by IPv4, by IPv6; "" if it need not.
	char resolver[2][64];
};
// `resolv_conf`: the text of the node's, as the program will find it in /etc/resolv.conf.
// ERROR_NOT_FOUND, naming the packages, where neither program is installed; a text over
// NETWORK_RESOLV_CONF_MAX bytes is ERROR_LIMIT.
enum { NETWORK_RESOLV_CONF_MAX = 64 * 1024 };
int network_plan(const char *resolv_conf, struct network_plan *plan, struct error *err);
// The container's resolv.conf, appended: that of the node with its servers if all can be reached
// from inside, and with the program's forwarder in their place (for IPv4 and IPv6 each) if one of
// them is a loopback or link-local address or a cloud's own. Not both, as pasta lets the answers of
// the server that it forwards to come from the forwarder, whoever was asked; and not the forwarder
// always, as it knows but the first server, and older versions of pasta's take no TCP.
void network_resolv_conf(
	const struct network_plan *plan, const char *resolv_conf, struct buffer *out);

// A zeroed one holds nothing.
struct network {
	struct process helper;	  // pasta or slirp4netns
	struct process interface; // makes the interface and waits for the helper; ends then
	int report_fd;		  // of `interface`: a struct error
	int stderr_fd;		  // of the helper
	struct network_plan plan; // in use
	int netns_fd, userns_fd;
};

// Make an interface in the container's network namespace (userns_fd: the user namespace that owns
// it; -1: ours, and we are root) and start the program on it. Returns at once: what it takes is
// done by children while the caller goes on. The descriptors are copied.
//
// The program runs as the root of the container's user namespace: no capabilities but over the
// container's own namespaces, no descriptor but /dev/null and a pipe for its messages; it gives
// up the file system and filters its system calls itself. It cannot outlive us (PDEATHSIG) nor
// network_release(), but it holds the namespace, so it does not end when the container does. The
// thread that starts it must live on.
int network_start(const struct network_plan *plan, int netns_fd, int userns_fd, struct network *n,
	struct error *err);
// Wait until the interface is up; before the container's program runs. Where pasta does not start,
// slirp4netns is tried. ERROR_SYSTEM with the program's own words where that does not start either,
// or its interface cannot be made. After a failure, too: network_release().
int network_wait(struct network *n, struct error *err);
// For when helper.pidfd says that the program has ended although the container runs: pasta may fail
// after it has taken the interface (where it may not confine itself), or later. Starts slirp4netns
// in its place, as network_wait() does; if it was that, or is not there: the error.
int network_restart(struct network *n, struct error *err);
void network_release(struct network *n); // fine on a zeroed one

// A TCP socket that listens on 127.0.0.1:port in a container's network namespace (descriptors as
// above), for a server outside of it. The caller's, or -1.
int network_listen(int netns_fd, int userns_fd, uint16_t port, struct error *err);

#define cleanup_network __attribute__((cleanup(network_release)))
