// SPDX-License-Identifier: Apache-2.0
#include "agent/data/download_address.h"

#include "base/memory.h"
#include "base/text.h"
#include "base/weaken.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <strings.h>

struct range4 {
	uint32_t address;
	unsigned bits;
	const char *what;
};

static const struct range4 refused4[] = {
	{0x00000000, 8, "an unspecified address"}, {0x7f000000, 8, "a loopback address"},
	{0xa9fe0000, 16, "a link-local address"},	// 169.254.169.254 is most clouds' metadata
	{0x646464c8, 32, "a cloud's metadata service"}, // 100.100.100.200
	{0xa83f8110, 32, "a cloud's metadata service"}, // 168.63.129.16
	{0xc00000c0, 32, "a cloud's metadata service"}, // 192.0.0.192
	{0xe0000000, 4, "a multicast address"},
	{0xf0000000, 4, "a reserved address"}, // and the broadcast address
};

static const char *refused_v4(uint32_t address)
{
	for (size_t i = 0; i < array_size(refused4); i++)
		if ((address ^ refused4[i].address) >> (32 - refused4[i].bits) == 0)
			return refused4[i].what;
	return NULL;
}

// The IPv4 address inside, where translators and tunnels keep one: mapped, compatible, NAT64, 6to4.
static bool inner_v4(const uint8_t a[16], uint32_t *inner)
{
	static const uint8_t zero[12], nat64[12] = {0x00, 0x64, 0xff, 0x9b};
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	size_t at;
	if (memcmp(a, mapped, 12) == 0 || memcmp(a, nat64, 12) == 0 ||
		(memcmp(a, zero, 12) == 0 && (a[12] || a[13])))
		at = 12;
	else if (a[0] == 0x20 && a[1] == 0x02)
		at = 2;
	else
		return false;
	*inner = (uint32_t)a[at] << 24 | (uint32_t)a[at + 1] << 16 | (uint32_t)a[at + 2] << 8 |
		 a[at + 3];
	return true;
}

static const char *refused_v6(const struct in6_addr *address)
{
	static const uint8_t metadata[16] = {0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54};
	const uint8_t *a = address->s6_addr;
	uint32_t inner;
	if (inner_v4(a, &inner))
		return refused_v4(inner);
	if (IN6_IS_ADDR_UNSPECIFIED(address))
		return "an unspecified address";
	if (IN6_IS_ADDR_LOOPBACK(address))
		return "a loopback address";
	if (a[0] == 0xfe && a[1] >= 0x80) // link-local, and what was site-local
		return "a link-local address";
	if (a[0] == 0xff)
		return "a multicast address";
	return memcmp(a, metadata, 16) == 0 ? "a cloud's metadata service" : NULL;
}

static bool is_same(const struct sockaddr *a, const struct sockaddr *b)
{
	uint32_t inner;
	if (a->sa_family == AF_INET6 && b->sa_family == AF_INET)
		return inner_v4(((const struct sockaddr_in6 *)(const void *)a)->sin6_addr.s6_addr,
			       &inner) &&
		       htonl(inner) ==
			       ((const struct sockaddr_in *)(const void *)b)->sin_addr.s_addr;
	if (a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return ((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr ==
		       ((const struct sockaddr_in *)(const void *)b)->sin_addr.s_addr;
	return memcmp(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr,
		       &((const struct sockaddr_in6 *)(const void *)b)->sin6_addr,
		       sizeof(struct in6_addr)) == 0;
}

// A service that listens on all of the node's addresses can be reached at each.
static bool is_own(const struct sockaddr *address)
{
	struct ifaddrs *all;
	bool found = false;
	if (getifaddrs(&all) < 0)
		return true; // not known is not allowed
	for (const struct ifaddrs *i = all; i && !found; i = i->ifa_next)
		found = i->ifa_addr &&
			(i->ifa_addr->sa_family == AF_INET || i->ifa_addr->sa_family == AF_INET6) &&
			is_same(address, i->ifa_addr);
	freeifaddrs(all);
	return found;
}

const char *download_address_refused(const struct sockaddr *address)
{
	const char *why = "of a family that is not spoken here";
	if (address->sa_family == AF_INET)
		why = refused_v4(ntohl(
			((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr));
	else if (address->sa_family == AF_INET6)
		why = refused_v6(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
	if (why)
		return why;
	return is_own(address) ? "one of this node's own addresses" : NULL;
}

bool download_host_listed(const struct json_strings *hosts, const char *host, const char *port)
{
	size_t n = strlen(host);
	for (size_t i = 0; i < hosts->count; i++) {
		const char *item = hosts->items[i];
		// "[::1]:8080" and "::1" are both taken; URLs have the brackets.
		bool bare = *host == '[' && *item != '[';
		const char *name = bare ? host + 1 : host;
		size_t size = bare ? n - 2 : n;
		if (strncasecmp(item, name, size) != 0)
			continue;
		if (!item[size] || (item[size] == ':' && streq(item + size + 1, port)))
			return true;
	}
	return false;
}

curl_socket_t download_socket_open(
	void *sockets, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct download_sockets *s = sockets;
	const char *why = s->any ? NULL : download_address_refused(&address->addr);
	(void)purpose;
	if (why && !weakened("download_addresses")) {
		char text[INET6_ADDRSTRLEN] = "an address";
		const void *in =
			address->family == AF_INET6
				? (const void *)&(
					  (const struct sockaddr_in6 *)(const void *)&address->addr)
					  ->sin6_addr
				: (const void *)&(
					  (const struct sockaddr_in *)(const void *)&address->addr)
					  ->sin_addr;
		inet_ntop(address->family, in, text, sizeof(text));
		snprintf(s->refused, sizeof(s->refused), "%s is %s", text, why);
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

bool download_proxy_excepted(const char *no_proxy, const char *host)
{
	size_t n = strlen(host);
	for (const char *p = no_proxy; *p;) {
		p += strspn(p, ", ");
		size_t size = strcspn(p, ", ");
		const char *item = p;
		p += size;
		if (size == 1 && *item == '*')
			return true;
		if (size && *item == '.')
			item++, size--;
		// A domain stands for itself and for what is below it.
		if (size && size <= n && strncasecmp(host + n - size, item, size) == 0 &&
			(size == n || host[n - size - 1] == '.'))
			return true;
	}
	return false;
}
