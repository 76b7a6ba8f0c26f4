// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/network.h"

#include "base/file.h"
#include "base/text.h"
#include "base/weaken.h"
#include "oci/runtime/network_internal.h"

#include <arpa/inet.h>
#include <net/route.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROUTES_BYTES_MAX = 16 * 1024 * 1024, SERVERS_MAX = 8 };

char *network_find_program(const char *name)
{
	const char *path = getenv("PATH");
	if (!path)
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	while (*path) {
		size_t n = strcspn(path, ":");
		cleanup_free char *found = xasprintf("%.*s/%s", (int)n, path, name);
		struct stat st;
		if (*path == '/' && stat(found, &st) == 0 && S_ISREG(st.st_mode) &&
			access(found, X_OK) == 0)
			return steal(found);
		path += n + (path[n] == ':');
	}
	return NULL;
}

enum { ROUTE_DESTINATION, ROUTE_PREFIX, ROUTE_FLAGS = 8, ROUTE_DEVICE, ROUTE_FIELDS };

// One line: destination, its prefix, source, its prefix, next hop, metric, two counters, flags (all
// in hexadecimal), interface. Returns false if there are less.
static bool split_route(const char *line, const char *fields[ROUTE_FIELDS])
{
	for (size_t i = 0; i < ROUTE_FIELDS; i++) {
		line += strspn(line, " ");
		fields[i] = line;
		line += strcspn(line, " \n");
		if (line == fields[i])
			return false;
	}
	return true;
}

bool network_ipv6_interface(const char *table, char name[static IF_NAMESIZE])
{
	for (const char *line = table; *line;) {
		const char *f[ROUTE_FIELDS];
		bool whole = split_route(line, f);
		line += strcspn(line, "\n");
		line += *line == '\n';
		if (!whole || strspn(f[ROUTE_DESTINATION], "0") != 32 ||
			!starts_with(f[ROUTE_PREFIX], "00 "))
			continue;
		unsigned long flags = strtoul(f[ROUTE_FLAGS], NULL, 16);
		size_t n = strcspn(f[ROUTE_DEVICE], " \n");
		if (!(flags & RTF_UP) || (flags & RTF_REJECT) || n >= IF_NAMESIZE ||
			starts_with(f[ROUTE_DEVICE], "lo\n"))
			continue;
		snprintf(name, IF_NAMESIZE, "%.*s", (int)n, f[ROUTE_DEVICE]);
		return true;
	}
	return false;
}

static bool find_ipv6(char name[static IF_NAMESIZE])
{
	cleanup_buffer struct buffer table = {0};
	struct error ignored; // no such file: a kernel without IPv6
	return file_read(AT_FDCWD, "/proc/net/ipv6_route", ROUTES_BYTES_MAX, &table, &ignored) ==
		       0 &&
	       table.data && network_ipv6_interface(table.data, name);
}

struct servers {
	char text[SERVERS_MAX][sizeof(((struct network_plan *)0)->resolver[0])];
	int family[SERVERS_MAX];
	size_t count;
	bool forbidden[2]; // by IPv4, by IPv6: one of them, whether it stands in the list or not
};

static size_t keyword(const char *line, const char *word)
{
	size_t n = strlen(word);
	return strncmp(line, word, n) == 0 && (line[n] == ' ' || line[n] == '\t') ? n : 0;
}

// The text behind the keyword. A scope (fe80::1%eth0) belongs to link-local addresses only.
static void take_server(struct servers *s, const char *text)
{
	char word[INET6_ADDRSTRLEN];
	unsigned char address[sizeof(struct in6_addr)];
	text += strspn(text, " \t");
	size_t n = strcspn(text, " \t\r\n%;#");
	if (n >= sizeof(word))
		return;
	memcpy(word, text, n);
	word[n] = '\0';
	int family = strchr(word, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(family, word, address) != 1)
		return;
	if (network_is_forbidden(family, address)) {
		s->forbidden[family == AF_INET6] = true;
	} else if (s->count < SERVERS_MAX) {
		s->family[s->count] = family;
		inet_ntop(family, address, s->text[s->count++], sizeof(s->text[0]));
	}
}

static void take_servers(struct servers *s, const char *resolv_conf)
{
	for (const char *line = resolv_conf; *line;) {
		size_t behind = keyword(line, "nameserver");
		if (behind)
			take_server(s, line + behind);
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
}

void network_plan_resolvers(struct network_plan *p, const char *resolv_conf)
{
	struct servers s = {0};
	bool usable = false;
	take_servers(&s, resolv_conf);
	for (size_t i = 0; i < s.count; i++)
		usable |= s.family[i] == AF_INET || p->ipv6;
	if (p->ipv6 && s.forbidden[1])
		snprintf(p->resolver[1], sizeof(p->resolver[1]), "%s", NETWORK_RESOLVER_6);
	// With no server at all the C library asks the loopback address, which is the container's.
	if (s.forbidden[0] || (!usable && !p->resolver[1][0]))
		snprintf(p->resolver[0], sizeof(p->resolver[0]), "%s", NETWORK_RESOLVER);
}

int network_plan(const char *resolv_conf, struct network_plan *plan, struct error *err)
{
	static const char *const programs[] = {"pasta", "slirp4netns"};
	struct network_plan p = {.interface = "lo"};
	if (strlen(resolv_conf) > NETWORK_RESOLV_CONF_MAX)
		return error_set(err, ERROR_LIMIT, "the node's resolv.conf is over %d bytes",
			NETWORK_RESOLV_CONF_MAX);
	for (size_t i = 0; i < array_size(programs) && !p.program; i++) {
		cleanup_free char *path = network_find_program(programs[i]);
		if (path)
			p.program = programs[i];
	}
	if (!p.program)
		return error_set(err, ERROR_NOT_FOUND,
			"a private network needs pasta (package passt) or slirp4netns, and neither "
			"is installed");
	// That of slirp4netns is experimental by its own words, and has a fixed address.
	p.ipv6 = streq(p.program, "pasta") && find_ipv6(p.interface);
	network_plan_resolvers(&p, resolv_conf);
	*plan = p;
	return 0;
}

void network_resolv_conf(
	const struct network_plan *plan, const char *resolv_conf, struct buffer *out)
{
	static const char *const kept[] = {"search", "domain", "options", "sortlist"};
	struct servers s = {0};
	bool forwarder = plan->resolver[0][0] || plan->resolver[1][0];
	for (const char *line = resolv_conf; *line;) {
		size_t n = strcspn(line, "\n");
		for (size_t i = 0; i < array_size(kept); i++)
			if (keyword(line, kept[i]))
				buffer_printf(out, "%.*s\n", (int)n, line);
		line += n + (line[n] == '\n');
	}
	for (int six = 0; six < 2; six++)
		if (plan->resolver[six][0])
			buffer_printf(out, "nameserver %s\n", plan->resolver[six]);
	take_servers(&s, resolv_conf);
	for (size_t i = 0; i < s.count; i++) {
		bool six = s.family[i] == AF_INET6;
		if (!plan->resolver[six][0] && (!six || plan->ipv6))
			buffer_printf(out, "nameserver %s\n", s.text[i]);
	}
	// Without it an answer over 512 bytes is asked for again by TCP.
	if (forwarder)
		buffer_puts(out, "options edns0\n");
}

struct arguments {
	const char **argv;
	size_t count;
};

static void add(struct arguments *a, const char *const *words)
{
	while (*words && a->count < NETWORK_ARGUMENTS_MAX - 1)
		a->argv[a->count++] = *words++;
	a->argv[a->count] = NULL;
}
#define add(a, ...) (add)((a), (const char *const[]){__VA_ARGS__, NULL})

// Only options that the oldest version in use (Debian 12: March 2023) and the newest know.
static void add_pasta(struct arguments *a, const struct network_plan *plan, const char *netns)
{
	add(a, "pasta", "--foreground", "--quiet");
	// We have put it into the user namespace already. It watches the namespace's path, which
	// will be gone although the namespace is there.
	add(a, "--netns", netns, "--netns-only", "--no-netns-quit", "--runas", "0");
	// Without an interface it takes that of the default route, and refuses to start where there
	// is none. Of this one it takes nothing for IPv4: all is said here; for IPv6 it insists on
	// a link-local address. A loopback interface has no hardware address, so there is one, too.
	add(a, "--interface", plan->interface, "--mac-addr", "9a:55:9a:55:9a:55");
	add(a, "--ns-ifname", NETWORK_INTERFACE, "--address", NETWORK_ADDRESS, "--netmask",
		"255.255.255.0", "--gateway", NETWORK_GATEWAY);
	if (plan->ipv6)
		add(a, "--address", NETWORK_ADDRESS_6, "--gateway", NETWORK_GATEWAY_6);
	else
		add(a, "--ipv4-only");
	for (size_t i = 0; i < array_size(plan->resolver); i++)
		if (plan->resolver[i][0])
			add(a, "--dns-forward", plan->resolver[i]);
	// By default its gateway's address leads to the node's loopback, and ports that are bound
	// on one side appear on the other.
	if (!weakened("network-loopback"))
		add(a, "--no-map-gw");
	add(a, "--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns",
		"none");
	add(a, "--no-dhcp", "--no-dhcpv6", "--no-ra");
}

static void add_slirp(struct arguments *a, const char *netns)
{
	add(a, "slirp4netns", "--netns-type=path", "--cidr", NETWORK_CIDR, "--mtu", "65520");
	if (!weakened("network-loopback"))
		add(a, "--disable-host-loopback");
	add(a, "--enable-sandbox", "--enable-seccomp", netns, NETWORK_INTERFACE);
}

void network_arguments(const struct network_plan *plan, const char *netns,
	const char *argv[static NETWORK_ARGUMENTS_MAX])
{
	struct arguments a = {.argv = argv};
	if (streq(plan->program, "pasta"))
		add_pasta(&a, plan, netns);
	else
		add_slirp(&a, netns);
}
