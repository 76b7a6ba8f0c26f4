// SPDX-License-Identifier: Apache-2.0
//
// Interfaces in the container's network namespace. Set up by ourselves and not by the helper's
// --config-net or --configure: the same for both programs, ready before one of them runs, and with
// the filter in place before the first frame can pass.
#include "base/file.h"
#include "base/memory.h"
#include "base/weaken.h"
#include "oci/runtime/network_internal.h"
#include "oci/runtime/network_netlink.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/neighbour.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// IFF_LOWER_UP: <linux/if.h> has it, and cannot be included beside <net/if.h>.
enum { LOOPBACK_INDEX = 1, LOWER_UP = 1 << 16, NEIGHBOUR_QUESTIONS = 30 };

static void link_up(struct netlink *n, unsigned index, const char *what)
{
	const struct ifinfomsg up = {
		.ifi_index = (int)index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	netlink_begin(n, RTM_NEWLINK, 0, &up, sizeof(up), what);
}

int network_loopback_up(struct error *err)
{
	struct netlink n = {.size = 0};
	link_up(&n, LOOPBACK_INDEX, "bring the loopback interface up");
	return netlink_run(&n, err);
}

static size_t parse(const char *text, struct in6_addr *address, int *family)
{
	*family = strchr(text, ':') ? AF_INET6 : AF_INET;
	inet_pton(*family, text, address);
	return *family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr);
}

static void add_address(struct netlink *n, unsigned index, const char *text, unsigned prefix)
{
	struct in6_addr address;
	int family;
	size_t size = parse(text, &address, &family);
	// Without the second in which IPv6 asks whether anybody else has it: nobody is there.
	const struct ifaddrmsg header = {.ifa_family = (uint8_t)family,
		.ifa_prefixlen = (uint8_t)prefix,
		.ifa_flags = IFA_F_NODAD | IFA_F_PERMANENT,
		.ifa_index = index};
	netlink_begin(n, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof(header),
		"set the container's address");
	netlink_put(n, IFA_LOCAL, &address, size);
	netlink_put(n, IFA_ADDRESS, &address, size);
}

static void add_default(struct netlink *n, unsigned index, const char *text)
{
	struct in6_addr gateway;
	int family;
	size_t size = parse(text, &gateway, &family);
	// On link: the gateway's own address is made unreachable, which would rule it out.
	const struct rtmsg header = {.rtm_family = (uint8_t)family,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST,
		.rtm_flags = RTNH_F_ONLINK};
	netlink_begin(n, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof(header),
		"set the container's default route");
	netlink_put(n, RTA_GATEWAY, &gateway, size);
	netlink_put_u32(n, RTA_OIF, index);
}

// So that who connects there is told at once, and does not wait for an answer to frames that the
// filter drops. The job cannot take the routes away, having no CAP_NET_ADMIN; nothing but time
// would be lost if it did.
static void add_unreachable(struct netlink *n, int family, const void *address, unsigned prefix)
{
	const struct rtmsg header = {.rtm_family = (uint8_t)family,
		.rtm_dst_len = (uint8_t)prefix,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNREACHABLE};
	netlink_begin(n, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof(header),
		family == AF_INET ? "set an unreachable route" : NULL);
	netlink_put(n, RTA_DST, address,
		family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr));
	if (family == AF_INET6)
		netlink_put_u32(n, RTA_OIF, LOOPBACK_INDEX);
}

static void add_unreachable_text(struct netlink *n, const char *text)
{
	struct in6_addr address;
	int family;
	unsigned prefix = 8 * (unsigned)parse(text, &address, &family);
	add_unreachable(n, family, &address, prefix);
}

static void add_routes(struct netlink *n, const struct network_plan *plan, unsigned index)
{
	add_default(n, index, NETWORK_GATEWAY);
	add_unreachable_text(n, NETWORK_GATEWAY);
	if (plan->ipv6) {
		add_default(n, index, NETWORK_GATEWAY_6);
		add_unreachable_text(n, NETWORK_GATEWAY_6);
	}
	for (size_t i = 0; i < network_forbidden_count; i++) {
		const struct network_forbidden *f = &network_forbidden[i];
		if (f->route && !weakened("network-routes"))
			add_unreachable(n, f->family, f->address, f->prefix);
	}
}

// clsact(8) and bpf(8), the latter with classic BPF, for who may not load eBPF.
static void add_egress_filter(struct netlink *n, unsigned index)
{
	struct network_filter f;
	network_filter_make((uint32_t)TC_ACT_OK, TC_ACT_SHOT, &f);
	struct tcmsg header = {.tcm_ifindex = (int)index,
		.tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0),
		.tcm_parent = TC_H_CLSACT};
	netlink_begin(n, RTM_NEWQDISC, NLM_F_CREATE, &header, sizeof(header),
		"filter the container's network (sch_ingress)");
	netlink_put(n, TCA_KIND, "clsact", sizeof("clsact"));
	header.tcm_handle = 1;
	header.tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS);
	header.tcm_info = TC_H_MAKE(1 << 16, htons(ETH_P_ALL));
	netlink_begin(n, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header),
		"filter the container's network (cls_bpf)");
	netlink_put(n, TCA_KIND, "bpf", sizeof("bpf"));
	size_t options = netlink_open(n, TCA_OPTIONS);
	uint16_t count = (uint16_t)f.count;
	netlink_put(n, TCA_BPF_OPS_LEN, &count, sizeof(count));
	netlink_put(n, TCA_BPF_OPS, f.code, f.count * sizeof(f.code[0]));
	netlink_put_u32(n, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	netlink_close(n, options);
}

// No address that the kernel makes up: they need a second each to become usable, and lead nowhere.
static void no_automatic_addresses(struct netlink *n, unsigned index)
{
	const struct ifinfomsg header = {.ifi_index = (int)index};
	const uint8_t none = IN6_ADDR_GEN_MODE_NONE;
	netlink_begin(n, RTM_SETLINK, 0, &header, sizeof(header), NULL); // no IPv6: as well
	size_t families = netlink_open(n, IFLA_AF_SPEC), six = netlink_open(n, AF_INET6);
	netlink_put(n, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof(none));
	netlink_close(n, six);
	netlink_close(n, families);
}

// The frames of a job wait in the interface's queue while the program cannot run (it has not
// confined itself yet, or the node stalls), but only as long as the kernel goes on to ask for the
// gateway's hardware address: three times, once a second, and then a first connection fails with
// "no route".
static void be_patient(struct netlink *n, unsigned index, const char *table)
{
	const struct ndtmsg header = {.ndtm_family = AF_UNSPEC};
	netlink_begin(n, RTM_SETNEIGHTBL, 0, &header, sizeof(header), NULL); // no IPv6: as well
	netlink_put(n, NDTA_NAME, table, strlen(table) + 1);
	size_t parameters = netlink_open(n, NDTA_PARMS);
	netlink_put_u32(n, NDTPA_IFINDEX, index);
	netlink_put_u32(n, NDTPA_MCAST_PROBES, NEIGHBOUR_QUESTIONS);
	netlink_close(n, parameters);
}

static int configure(
	const struct network_plan *plan, unsigned index, bool egress_filter, struct error *err)
{
	struct netlink n = {.size = 0};
	const struct ifinfomsg header = {.ifi_index = (int)index};
	link_up(&n, LOOPBACK_INDEX, "bring the loopback interface up");
	no_automatic_addresses(&n, index);
	netlink_begin(&n, RTM_SETLINK, 0, &header, sizeof(header), "set the MTU");
	netlink_put_u32(&n, IFLA_MTU, NETWORK_MTU);
	if (egress_filter)
		add_egress_filter(&n, index);
	link_up(&n, index, "bring the container's interface up");
	add_address(&n, index, NETWORK_ADDRESS, NETWORK_PREFIX);
	if (plan->ipv6)
		add_address(&n, index, NETWORK_ADDRESS_6, NETWORK_PREFIX_6);
	add_routes(&n, plan, index);
	be_patient(&n, index, "arp_cache");
	be_patient(&n, index, "ndisc_cache");
	return netlink_run(&n, err);
}

static int make_tap(int tun_fd, int filter_fd, unsigned *index, struct error *err)
{
	struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI, .ifr_name = NETWORK_INTERFACE};
	if (ioctl(tun_fd, TUNSETIFF, &r) < 0)
		return error_set_errno(err, errno, "make the container's interface");
	if (filter_fd >= 0 && !weakened("network-filter") &&
		ioctl(tun_fd, TUNSETFILTEREBPF, &filter_fd) < 0)
		return error_set_errno(err, errno, "set the network filter");
	// It stays when we close it, and the program finds it by its name.
	if (ioctl(tun_fd, TUNSETPERSIST, 1L) < 0)
		return error_set_errno(err, errno, "keep the container's interface");
	*index = if_nametoindex(NETWORK_INTERFACE);
	return *index ? 0 : error_set_errno(err, errno, "find the container's interface");
}

// That of a program that has failed, with what was set for it.
static int remove_old(struct error *err)
{
	struct netlink n = {.size = 0};
	const struct ifinfomsg header = {.ifi_family = AF_UNSPEC};
	netlink_begin(&n, RTM_DELLINK, 0, &header, sizeof(header), NULL); // there is none: as well
	netlink_put(&n, IFLA_IFNAME, NETWORK_INTERFACE, sizeof(NETWORK_INTERFACE));
	return netlink_run(&n, err);
}

int network_interface_make(const struct network_plan *plan, int tun_fd, int filter_fd,
	int *netlink_fd, unsigned *index, struct error *err)
{
	unsigned i = 0;
	if (remove_old(err) < 0 || make_tap(tun_fd, filter_fd, &i, err) < 0)
		return -1;
	// Before it is up: then nothing is attached, and that the program attaches is an event.
	close(tun_fd);
	cleanup_fd int fd = netlink_socket(RTMGRP_LINK, err);
	if (fd < 0 || configure(plan, i, filter_fd < 0 && !weakened("network-filter"), err) < 0)
		return -1;
	*netlink_fd = steal_fd(&fd);
	*index = i;
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool says_up(char *bytes, size_t size, unsigned index)
{
	for (struct nlmsghdr *h = (void *)bytes; NLMSG_OK(h, size); h = NLMSG_NEXT(h, size)) {
		const struct ifinfomsg *link = NLMSG_DATA(h);
		if (h->nlmsg_type == RTM_NEWLINK && link->ifi_index == (int)index &&
			(link->ifi_flags & LOWER_UP))
			return true;
	}
	return false;
}

int network_interface_wait(int netlink_fd, unsigned index, int timeout_ms, struct error *err)
{
	for (int64_t end = now_ms() + timeout_ms; now_ms() < end;) {
		struct pollfd p = {.fd = netlink_fd, .events = POLLIN};
		_Alignas(NLMSG_ALIGNTO) char bytes[8192];
		if (poll(&p, 1, (int)(end - now_ms())) <= 0)
			continue;
		ssize_t size = recv(netlink_fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (size > 0 && says_up(bytes, (size_t)size, index))
			return 0;
	}
	return error_set(err, ERROR_SYSTEM, "the program has not attached to the interface in %d s",
		timeout_ms / 1000);
}
