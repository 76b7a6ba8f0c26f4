// SPDX-License-Identifier: Apache-2.0
//
// What the container must not reach, and the filter that sees to it. Neither pasta nor slirp4netns
// can be told such a list, and routes in the container's namespace do not suffice: a socket that
// is bound to an interface (SO_BINDTODEVICE, which needs no capability) passes by an unreachable
// route for IPv4, and who has CAP_NET_RAW writes any frame onto the interface, a destination of
// 127.0.0.1 or 0.0.0.0 among them, to which the helper would connect on the node. So the frames
// are looked at on their way to the helper. The best place is the tap device itself (an eBPF
// filter, TUNSETFILTEREBPF): nothing that is sent passes by it. Who may not load eBPF, that is who
// is not root, has a filter at the interface's egress, which packet(7) sockets with
// PACKET_QDISC_BYPASS pass by: a rootless container should not be given CAP_NET_RAW.
#include "base/memory.h"
#include "oci/runtime/network_internal.h"

#include <assert.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// Beside link-local addresses some that clouds use to the same end: they answer to their own
// machines only, and know them by where they ask from.
const struct network_forbidden network_forbidden[] = {
	{AF_INET, {0}, 8, false}, // "this host": connect(2) takes it for the loopback address
	{AF_INET, {127}, 8, false}, {AF_INET, {169, 254}, 16, true},
	{AF_INET, {100, 100, 100, 200}, 32, true}, // Alibaba Cloud
	{AF_INET, {168, 63, 129, 16}, 32, true},   // Azure
	{AF_INET, {224}, 3, false},		   // multicast, reserved, broadcast
	{AF_INET6, {0}, 64, false}, // unspecified, loopback, IPv4 addresses in another form
	{AF_INET6, {0xfe, 0x80}, 10, true},
	{AF_INET6, {0xfd, 0x00, 0x0e, 0xc2}, 32, true}, // Amazon
	{AF_INET6, {0xfd, 0x20, 0x00, 0xce}, 32, true}, // Google
	{AF_INET6, {0xfd, 0x00, 0x00, 0xc1}, 32, true}, // Oracle
};
const size_t network_forbidden_count = array_size(network_forbidden);

static uint32_t word_of(const uint8_t *address, unsigned i)
{
	const uint8_t *p = address + 4 * i;
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t mask_of(unsigned prefix, unsigned i)
{
	unsigned bits = prefix <= 32 * i ? 0 : prefix - 32 * i;
	return bits >= 32 ? UINT32_MAX : bits ? ~(UINT32_MAX >> bits) : 0;
}

bool network_is_forbidden(int family, const void *address)
{
	for (size_t n = 0; n < network_forbidden_count; n++) {
		const struct network_forbidden *f = &network_forbidden[n];
		bool same = f->family == family;
		for (unsigned i = 0; same && 32 * i < f->prefix; i++)
			same = (word_of(address, i) & mask_of(f->prefix, i)) ==
			       word_of(f->address, i);
		if (same)
			return true;
	}
	return false;
}

// Where things are in a frame.
enum {
	AT_TYPE = 12,
	AT_DESTINATION_4 = 14 + 16,
	AT_NEXT_HEADER_6 = 14 + 6,
	AT_DESTINATION_6 = 14 + 24
};

static size_t emit(struct network_filter *f, uint16_t code, uint8_t jf, uint32_t k)
{
	assert(f->count < NETWORK_FILTER_MAX);
	f->code[f->count] = (struct sock_filter){.code = code, .jf = jf, .k = k};
	return f->count++;
}

// Go on if the accumulator is `k`; else to where land() says.
static size_t unless_equal(struct network_filter *f, uint32_t k)
{
	return emit(f, BPF_JMP | BPF_JEQ | BPF_K, 0, k);
}

static void land(struct network_filter *f, size_t from)
{
	assert(f->count - from - 1 <= UINT8_MAX);
	f->code[from].jf = (uint8_t)(f->count - from - 1);
}

static void emit_rule(struct network_filter *f, const struct network_forbidden *rule, uint32_t drop)
{
	unsigned at = rule->family == AF_INET ? AT_DESTINATION_4 : AT_DESTINATION_6, words = 0;
	size_t jumps[4];
	for (unsigned i = 0; 32 * i < rule->prefix; i++) {
		emit(f, BPF_LD | BPF_W | BPF_ABS, 0, at + 4 * i);
		emit(f, BPF_ALU | BPF_AND | BPF_K, 0, mask_of(rule->prefix, i));
		jumps[words++] = unless_equal(f, word_of(rule->address, i));
	}
	emit(f, BPF_RET | BPF_K, 0, drop);
	for (unsigned i = 0; i < words; i++)
		land(f, jumps[i]);
}

// Multicast is for finding neighbours only, which the helper answers; anything else would be sent
// on the node's own link.
static void emit_multicast_6(struct network_filter *f, uint32_t drop)
{
	emit(f, BPF_LD | BPF_B | BPF_ABS, 0, AT_DESTINATION_6);
	size_t other = unless_equal(f, 0xff);
	emit(f, BPF_LD | BPF_B | BPF_ABS, 0, AT_NEXT_HEADER_6);
	size_t not_icmp = unless_equal(f, IPPROTO_ICMPV6);
	size_t icmp = unless_equal(f, UINT32_MAX); // always jumps
	land(f, not_icmp);
	emit(f, BPF_RET | BPF_K, 0, drop);
	land(f, icmp);
	land(f, other);
}

static void emit_family(struct network_filter *f, int family, uint32_t accept, uint32_t drop)
{
	for (size_t i = 0; i < network_forbidden_count; i++)
		if (network_forbidden[i].family == family)
			emit_rule(f, &network_forbidden[i], drop);
	if (family == AF_INET6)
		emit_multicast_6(f, drop);
	emit(f, BPF_RET | BPF_K, 0, accept);
}

void network_filter_make(uint32_t accept, uint32_t drop, struct network_filter *f)
{
	f->count = 0;
	emit(f, BPF_LD | BPF_H | BPF_ABS, 0, AT_TYPE);
	size_t other = unless_equal(f, ETH_P_IP);
	emit_family(f, AF_INET, accept, drop);
	land(f, other);
	other = unless_equal(f, ETH_P_IPV6);
	emit_family(f, AF_INET6, accept, drop);
	land(f, other);
	other = unless_equal(f, ETH_P_ARP);
	emit(f, BPF_RET | BPF_K, 0, accept);
	land(f, other);
	emit(f, BPF_RET | BPF_K, 0, drop); // VLAN tags and what else the helpers do not know
}

// Each instruction that network_filter_make() uses has an equal of one or two in eBPF; the values
// are those of the accumulator, register 0.
static unsigned translate(const struct sock_filter *c, struct bpf_insn out[2])
{
	switch (BPF_CLASS(c->code)) {
	case BPF_LD:
		out[0] = (struct bpf_insn){.code = (uint8_t)c->code, .imm = (int32_t)c->k};
		return 1;
	case BPF_ALU:
		out[0] = (struct bpf_insn){
			.code = BPF_ALU | BPF_AND | BPF_K, .dst_reg = 0, .imm = (int32_t)c->k};
		return 1;
	case BPF_JMP:
		out[0] = (struct bpf_insn){
			.code = BPF_JMP32 | BPF_JNE | BPF_K, .imm = (int32_t)c->k};
		return 1;
	default: // BPF_RET
		out[0] = (struct bpf_insn){.code = BPF_ALU | BPF_MOV | BPF_K, .imm = (int32_t)c->k};
		out[1] = (struct bpf_insn){.code = BPF_JMP | BPF_EXIT};
		return 2;
	}
}

static unsigned translate_all(
	const struct network_filter *f, struct bpf_insn out[static 2 * NETWORK_FILTER_MAX + 1])
{
	unsigned at[NETWORK_FILTER_MAX + 1] = {0}, n = 0;
	// Loads from a packet take it from register 6.
	out[n++] = (struct bpf_insn){
		.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 6, .src_reg = BPF_REG_1};
	for (size_t i = 0; i < f->count; i++) {
		at[i] = n;
		n += translate(&f->code[i], out + n);
	}
	for (size_t i = 0; i < f->count; i++)
		if (BPF_CLASS(f->code[i].code) == BPF_JMP)
			out[at[i]].off = (int16_t)(at[i + 1 + f->code[i].jf] - at[i] - 1);
	return n;
}

int network_filter_load(struct error *err)
{
	struct network_filter f;
	struct bpf_insn code[2 * NETWORK_FILTER_MAX + 1];
	network_filter_make(INT32_MAX, 0, &f); // how much of the frame to keep
	union bpf_attr attributes;
	memset(&attributes, 0, sizeof(attributes));
	attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	attributes.insns = (uintptr_t)code;
	attributes.insn_cnt = translate_all(&f, code);
	attributes.license = (uintptr_t) "Apache-2.0";
	int fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof(attributes));
	return fd < 0 ? error_set_errno(err, errno, "load the network filter") : fd;
}
