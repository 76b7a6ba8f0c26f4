// SPDX-License-Identifier: Apache-2.0
//
// The parts of the private network: the addresses (network.c), what may not be reached
// (network_filter.c), the interface (network_link.c), the processes (network_helper.c,
// network_child.c).
#pragma once

#include "oci/runtime/network.h"

#include <linux/filter.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

// The addresses are ours and not the node's, so that they never change and are there on a node
// without network. From ranges that no real network uses: the one for benchmarks (RFC 2544), and a
// random one of the unique local ones (RFC 4193), which getaddrinfo(3) ranks below IPv4. The host
// parts are those that slirp4netns computes from its --cidr.
#define NETWORK_INTERFACE  "eth0"
#define NETWORK_CIDR	   "198.18.0.0/24"
#define NETWORK_ADDRESS	   "198.18.0.100"
#define NETWORK_GATEWAY	   "198.18.0.2"
#define NETWORK_RESOLVER   "198.18.0.3"
#define NETWORK_ADDRESS_6  "fd6c:8a1e:93d5::64"
#define NETWORK_GATEWAY_6  "fd6c:8a1e:93d5::2"
#define NETWORK_RESOLVER_6 "fd6c:8a1e:93d5::3"
enum { NETWORK_PREFIX = 24, NETWORK_PREFIX_6 = 64, NETWORK_MTU = 65520 };

enum { NETWORK_ARGUMENTS_MAX = 48, NETWORK_NETNS_SIZE = 32 };
// The helper's command line. `netns` is the path of the network namespace.
void network_arguments(const struct network_plan *plan, const char *netns,
	const char *argv[static NETWORK_ARGUMENTS_MAX]);
// A program in PATH (absolute elements only), owned by the caller; NULL: there is none.
char *network_find_program(const char *name);
// The interface of the default route in the text of /proc/net/ipv6_route.
bool network_ipv6_interface(const char *table, char name[static IF_NAMESIZE]);

// The forwarders that the container needs, for a plan whose other members are set.
void network_plan_resolvers(struct network_plan *plan, const char *resolv_conf);

// What the container must not reach.
struct network_forbidden {
	int family;
	uint8_t address[16]; // in network order
	unsigned prefix;     // bits
	// An "unreachable" route is set, so that programs fail at once; the others are nothing that
	// the container's kernel would send.
	bool route;
};
extern const struct network_forbidden network_forbidden[];
extern const size_t network_forbidden_count;
bool network_is_forbidden(int family, const void *address);

// A filter for Ethernet frames, as classic BPF.
enum { NETWORK_FILTER_MAX = 256 };
struct network_filter {
	struct sock_filter code[NETWORK_FILTER_MAX];
	size_t count;
};
void network_filter_make(uint32_t accept, uint32_t drop, struct network_filter *filter);
// The same loaded as eBPF for a tap device, which drops frames for which a filter returns 0.
// Returns the descriptor; -1 with the error where the kernel refuses, as it does who is not root.
int network_filter_load(struct error *err);

// In the container's network namespace, as its owner: make the interface with addresses, routes and
// the filter. tun_fd: /dev/net/tun, opened in this namespace. filter_fd: of network_filter_load(),
// -1: use a filter of the traffic control instead. Only system calls.
int network_interface_make(const struct network_plan *plan, int tun_fd, int filter_fd,
	int *netlink_fd, unsigned *index, struct error *err);
// Wait until the helper has attached to it: what is sent from then on it finds in the queue. That
// it answers, too, comes 5 to 40 ms later, when it has confined itself: too long for a job to wait.
int network_interface_wait(int netlink_fd, unsigned index, int timeout_ms, struct error *err);

extern const char network_tun[]; // the device

// What the children need, made ready by us: between fork and exec they make system calls only.
struct network_launch {
	const struct network *n;
	pid_t parent;
	int filter_fd;	      // -1: none could be loaded
	int report[2], go[2]; // pipes; [1] is the interface's child's
	int stderr_pipe[2];
	char netns[NETWORK_NETNS_SIZE];
	const char *argv[NETWORK_ARGUMENTS_MAX];
	char *program;
	bool private_tun;
};
// Never return.
void network_interface_child(const struct network_launch *l) __attribute__((noreturn));
void network_program_child(const struct network_launch *l) __attribute__((noreturn));
