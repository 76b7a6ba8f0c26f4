// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/network.h"

#include "base/text.h"
#include "oci/runtime/network_internal.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

// What the forwarder stands for depends on the node's servers; IPv6 on the node.
static void writes_resolv_conf(void **state)
{
	static const char four[] = NETWORK_RESOLVER, six[] = NETWORK_RESOLVER_6;
	static const struct {
		const char *node, *resolver[2], *expected, *why;
	} cases[] = {
		{"# made by hand\nsearch a.test b.test\nnameserver 10.0.0.2\nnameserver fd99::1\n",
			{"", ""}, "search a.test b.test\nnameserver 10.0.0.2\nnameserver fd99::1\n",
			"ordinary servers stay"},
		{"nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n", {four, ""},
			"options edns0 trust-ad\nsearch .\nnameserver 198.18.0.3\noptions edns0\n",
			"systemd-resolved"},
		{"nameserver 10.0.0.2\nnameserver 169.254.169.253\n", {four, ""},
			"nameserver 198.18.0.3\noptions edns0\n",
			"pasta's forwarder and a server it forwards to exclude each other"},
		{"nameserver\t::1\nnameserver 10.0.0.2", {"", six},
			"nameserver fd6c:8a1e:93d5::3\nnameserver 10.0.0.2\noptions edns0\n",
			"each family has its own"},
		{"nameserver fe80::1%eth0\n", {"", six},
			"nameserver fd6c:8a1e:93d5::3\noptions edns0\n", "a scope"},
		{"nameserver fd00:ec2::253\n", {"", six},
			"nameserver fd6c:8a1e:93d5::3\noptions edns0\n", "Amazon's"},
		{"", {four, ""}, "nameserver 198.18.0.3\noptions edns0\n", "none is 127.0.0.1"},
		{"nameserver nonsense\nnameservers 10.0.0.1\nnameserver 1.2.3\nlookup file\n",
			{four, ""}, "nameserver 198.18.0.3\noptions edns0\n", "nothing usable"},
		{"nameserver 127.0.0.1 \r\nnameserver 127.0.0.1#53\n", {four, ""},
			"nameserver 198.18.0.3\noptions edns0\n", "ends of the address; once"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct network_plan plan = {.program = "pasta", .ipv6 = true, .interface = "lo"};
		cleanup_buffer struct buffer out = {0};
		network_plan_resolvers(&plan, cases[i].node);
		network_resolv_conf(&plan, cases[i].node, &out);
		if (!streq(plan.resolver[0], cases[i].resolver[0]) ||
			!streq(plan.resolver[1], cases[i].resolver[1]) ||
			!streq(out.data, cases[i].expected))
			fail_msg("%s: %s, %s: %s", cases[i].why, plan.resolver[0], plan.resolver[1],
				out.data);
	}
}

// Servers that cannot be reached are none.
static void writes_resolv_conf_without_ipv6(void **state)
{
	static const struct {
		const char *node, *expected;
	} cases[] = {
		{"nameserver fd99::1\nnameserver 10.0.0.2\n", "nameserver 10.0.0.2\n"},
		{"nameserver fd99::1\n", "nameserver 198.18.0.3\noptions edns0\n"},
		{"nameserver ::1\n", "nameserver 198.18.0.3\noptions edns0\n"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct network_plan plan = {.program = "slirp4netns", .interface = "lo"};
		cleanup_buffer struct buffer out = {0};
		network_plan_resolvers(&plan, cases[i].node);
		network_resolv_conf(&plan, cases[i].node, &out);
		assert_string_equal(out.data, cases[i].expected);
	}
}

static bool has(const char *const *argv, const char *word, const char *behind)
{
	for (size_t i = 0; argv[i]; i++)
		if (streq(argv[i], word))
			return !behind || (argv[i + 1] && streq(argv[i + 1], behind));
	return false;
}

static void makes_arguments(void **state)
{
	const char *argv[NETWORK_ARGUMENTS_MAX];
	struct network_plan plan = {.program = "pasta", .interface = "lo"};
	(void)state;
	network_arguments(&plan, "/proc/5/ns/net", argv);
	assert_string_equal(argv[0], "pasta");
	assert_true(has(argv, "--netns", "/proc/5/ns/net"));
	assert_true(has(argv, "--no-map-gw", NULL));
	static const char *const ports[] = {"--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"};
	for (size_t i = 0; i < array_size(ports); i++)
		assert_true(has(argv, ports[i], "none"));
	assert_true(has(argv, "--interface", "lo"));
	assert_true(has(argv, "--ipv4-only", NULL));
	assert_false(has(argv, "--dns-forward", NULL));

	plan = (struct network_plan){.program = "pasta",
		.ipv6 = true,
		.interface = "ens3",
		.resolver = {NETWORK_RESOLVER, NETWORK_RESOLVER_6}};
	network_arguments(&plan, "/proc/4194304/ns/net", argv); // the longest that there is
	assert_true(has(argv, "--interface", "ens3"));
	assert_true(has(argv, "--dns-forward", NETWORK_RESOLVER));
	assert_false(has(argv, "--ipv4-only", NULL));
	assert_true(has(argv, "--no-ra", NULL)); // the last: nothing was cut off

	plan = (struct network_plan){.program = "slirp4netns", .interface = "lo"};
	network_arguments(&plan, "/proc/5/ns/net", argv);
	assert_string_equal(argv[0], "slirp4netns");
	assert_true(has(argv, "--disable-host-loopback", NULL));
	assert_true(has(argv, "--enable-sandbox", NULL));
	assert_true(has(argv, "/proc/5/ns/net", NETWORK_INTERFACE));
}

static void finds_the_ipv6_route(void **state)
{
#define HOST  "fd990000000000000000000000000002 80 "
#define ZERO  "00000000000000000000000000000000 00 "
#define REST  "00000000000000000000000000000000 "
#define COUNT " 00000001 00000000 "
	static const struct {
		const char *table, *expected;
	} cases[] = {
		{HOST ZERO REST "00000100" COUNT "00000001     eth1\n" ZERO ZERO
				"fd990000000000000000000000000001 00000400" COUNT
				"00000003     eth0\n",
			"eth0"},
		{ZERO ZERO REST "ffffffff" COUNT "00200200       lo\n", NULL},
		{ZERO ZERO REST "00000400" COUNT "00000201     eth0\n", NULL}, // unreachable
		{ZERO ZERO REST "00000400" COUNT "00000002     eth0\n", NULL}, // not up
		{HOST ZERO REST "00000100" COUNT "00000001     eth0\n", NULL},
		{"", NULL},
		{"\n\nnonsense", NULL},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		char name[IF_NAMESIZE] = "";
		assert_int_equal(
			network_ipv6_interface(cases[i].table, name), cases[i].expected != NULL);
		assert_string_equal(name, cases[i].expected ? cases[i].expected : "");
	}
}

// The filter as the kernel runs it: on a socket that receives frames.
static bool passes(int sockets[2], const uint8_t *frame, size_t size)
{
	uint8_t got[128];
	assert_int_equal(send(sockets[0], frame, size, 0), size);
	return recv(sockets[1], got, sizeof(got), MSG_DONTWAIT) == (ssize_t)size;
}

static size_t make_frame(uint8_t frame[static 64], const char *destination, uint8_t protocol)
{
	bool six = strchr(destination, ':');
	memset(frame, 0, 64);
	frame[12] = six ? 0x86 : 0x08;
	frame[13] = six ? 0xdd : 0x00;
	if (six)
		frame[14 + 6] = protocol;
	inet_pton(six ? AF_INET6 : AF_INET, destination, frame + 14 + (six ? 24 : 16));
	return 64;
}

static void filters_frames(void **state)
{
	static const struct {
		const char *destination;
		uint8_t protocol;
		bool passes;
	} cases[] = {
		{"10.99.0.1", 6, true},
		{"198.18.0.3", 17, true},
		{"8.8.8.8", 17, true},
		{"126.255.255.255", 6, true},
		{"128.0.0.1", 6, true},
		{"169.253.255.255", 6, true},
		{"169.255.0.0", 6, true},
		{"100.100.100.100", 6, true},
		{"127.0.0.1", 6, false},
		{"127.255.255.254", 6, false},
		{"0.0.0.0", 6, false},
		{"0.1.2.3", 6, false},
		{"169.254.169.254", 6, false},
		{"169.254.0.0", 17, false},
		{"168.63.129.16", 6, false},
		{"100.100.100.200", 6, false},
		{"224.0.0.251", 17, false},
		{"255.255.255.255", 17, false},
		{"2001:db8::1", 6, true},
		{"fd99::1", 6, true},
		{"fd6c:8a1e:93d5::3", 17, true},
		{"64:ff9b::808:808", 6, true},
		{"::", 6, false},
		{"::1", 6, false},
		{"::ffff:127.0.0.1", 6, false},
		{"::ffff:169.254.169.254", 6, false},
		{"fe80::1", 58, false},
		{"febf:ffff::1", 6, false},
		{"fec0::1", 6, true},
		{"fd00:ec2::254", 6, false},
		{"fd00:ec2:1::254", 6, false},
		{"fd00:ec3::254", 6, true},
		{"fd20:ce::254", 6, false},
		{"ff02::1:ff00:2", 58, true}, // who has the gateway's address
		{"ff02::fb", 17, false},
	};
	struct network_filter filter;
	int sockets[2];
	uint8_t frame[64];
	(void)state;
	network_filter_make(INT32_MAX, 0, &filter);
	const struct sock_fprog program = {(unsigned short)filter.count, filter.code};
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sockets), 0);
	assert_int_equal(
		setsockopt(sockets[1], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
	for (size_t i = 0; i < array_size(cases); i++) {
		size_t size = make_frame(frame, cases[i].destination, cases[i].protocol);
		if (passes(sockets, frame, size) != cases[i].passes)
			fail_msg("%s should%s pass", cases[i].destination,
				cases[i].passes ? "" : " not");
	}
	// ARP, and what is neither: a VLAN's tag would hide the destination.
	frame[12] = 0x08;
	frame[13] = 0x06;
	assert_true(passes(sockets, frame, sizeof(frame)));
	frame[12] = 0x81;
	frame[13] = 0x00;
	assert_false(passes(sockets, frame, sizeof(frame)));
	// Too short to tell.
	make_frame(frame, "10.99.0.1", 6);
	assert_false(passes(sockets, frame, 32));
	close(sockets[0]);
	close(sockets[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_resolv_conf),
		cmocka_unit_test(writes_resolv_conf_without_ipv6),
		cmocka_unit_test(makes_arguments),
		cmocka_unit_test(finds_the_ipv6_route),
		cmocka_unit_test(filters_frames),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
