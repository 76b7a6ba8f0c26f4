// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/network.h"

#include "base/file.h"
#include "base/text.h"
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

// One line: destination, its prefix, source, its prefix, next hop, metric, two counters, flags (all
// in hexadecimal), interface.
bool network_ipv6_interface(const char *table, char name[static IF_NAMESIZE])
{
	for (const char *line = table; *line;) {
		char destination[33], device[IF_NAMESIZE];
		unsigned prefix, flags;
		if (sscanf(line, "%32s %x %*s %*s %*s %*s %*s %*s %x %15s", destination, &prefix,
			    &flags, device) == 4 &&
			prefix == 0 && strspn(destination, "0") == 32 && (flags & RTF_UP) &&
			!(flags & RTF_REJECT) && !streq(device, "lo")) {
			snprintf(name, IF_NAMESIZE, "%s", device);
			return true;
		}
		line += strcspn(line, "\n");
		line += *line == '\n';
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

int network_plan(struct network_plan *plan, struct error *err)
{
	static const char *const programs[] = {"pasta", "slirp4netns"};
	struct network_plan p = {.interface = "lo", .resolver = {NETWORK_RESOLVER}};
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
	if (streq(p.program, "pasta") && find_ipv6(p.interface)) {
		p.ipv6 = true;
		snprintf(p.resolver[1], sizeof(p.resolver[1]), "%s", NETWORK_RESOLVER_6);
	}
	*plan = p;
	return 0;
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
	add(a, "pasta", "--foreground", "--quiet", "--stderr");
	// We have put it into the user namespace already. It watches the namespace's path, which
	// will be gone although the namespace is there.
	add(a, "--netns", netns, "--netns-only", "--no-netns-quit", "--runas", "0");
	// Without an interface it takes that of the default route, and refuses to start where there
	// is none. Of this one it takes nothing for IPv4: all is said here; for IPv6 it insists on
	// a link-local address. A loopback interface has no hardware address, so there is one, too.
	add(a, "--interface", plan->interface, "--mac-addr", "9a:55:9a:55:9a:55");
	add(a, "--ns-ifname", NETWORK_INTERFACE, "--address", NETWORK_ADDRESS, "--netmask",
		"255.255.255.0", "--gateway", NETWORK_GATEWAY, "--dns-forward", NETWORK_RESOLVER);
	if (plan->ipv6)
		add(a, "--address", NETWORK_ADDRESS_6, "--gateway", NETWORK_GATEWAY_6,
			"--dns-forward", NETWORK_RESOLVER_6);
	else
		add(a, "--ipv4-only");
	// By default its gateway's address leads to the node's loopback, and ports that are bound
	// on one side appear on the other.
	add(a, "--no-map-gw", "--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none",
		"--udp-ns", "none");
	add(a, "--no-dhcp", "--no-dhcpv6", "--no-ra");
}

static void add_slirp(struct arguments *a, const char *netns)
{
	add(a, "slirp4netns", "--netns-type=path", "--cidr=" NETWORK_CIDR, "--mtu=65520",
		"--disable-host-loopback", "--enable-sandbox", "--enable-seccomp", netns,
		NETWORK_INTERFACE);
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

struct servers {
	char text[SERVERS_MAX][sizeof(((struct network_plan *)0)->resolver[0])];
	size_t count;
	bool forwarder;
};

static void add_server(struct servers *s, const char *address)
{
	for (size_t i = 0; i < s->count; i++)
		if (streq(s->text[i], address))
			return;
	if (s->count < SERVERS_MAX)
		snprintf(s->text[s->count++], sizeof(s->text[0]), "%s", address);
}

static void add_forwarder(struct servers *s, const struct network_plan *plan, int family)
{
	bool six = family == AF_INET6 && plan->resolver[1][0];
	if (plan->resolver[0][0])
		add_server(s, plan->resolver[six]);
	s->forwarder = true;
}

// The text behind the keyword; scopes (fe80::1%eth0) belong to link-local addresses only.
static void take_server(
	struct servers *s, const struct network_plan *plan, const char *text, size_t size)
{
	char word[INET6_ADDRSTRLEN], canonical[INET6_ADDRSTRLEN];
	unsigned char address[sizeof(struct in6_addr)];
	size_t from = 0;
	while (from < size && (text[from] == ' ' || text[from] == '\t'))
		from++;
	size_t n = strcspn(text + from, " \t\r\n%;#");
	if (n >= sizeof(word))
		return;
	memcpy(word, text + from, n);
	word[n] = '\0';
	int family = strchr(word, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(family, word, address) != 1 ||
		!inet_ntop(family, address, canonical, sizeof(canonical)))
		return;
	if (network_is_forbidden(family, address))
		add_forwarder(s, plan, family);
	else if (family == AF_INET || plan->ipv6)
		add_server(s, canonical);
}

static size_t keyword(const char *line, const char *word)
{
	size_t n = strlen(word);
	return strncmp(line, word, n) == 0 && (line[n] == ' ' || line[n] == '\t') ? n : 0;
}

int network_resolv_conf(
	const struct network_plan *plan, const char *node, struct buffer *out, struct error *err)
{
	static const char *const kept[] = {"search", "domain", "options", "sortlist"};
	struct servers servers = {0};
	if (strlen(node) > NETWORK_RESOLV_CONF_MAX)
		return error_set(err, ERROR_LIMIT, "the node's resolv.conf is over %d bytes",
			NETWORK_RESOLV_CONF_MAX);
	for (const char *line = node; *line;) {
		size_t n = strcspn(line, "\n"), behind = keyword(line, "nameserver");
		if (behind)
			take_server(&servers, plan, line + behind, n - behind);
		for (size_t i = 0; i < array_size(kept); i++)
			if (keyword(line, kept[i]))
				buffer_printf(out, "%.*s\n", (int)n, line);
		line += n + (line[n] == '\n');
	}
	// The C library then asks the node's loopback address.
	if (servers.count == 0)
		add_forwarder(&servers, plan, AF_INET);
	for (size_t i = 0; i < servers.count; i++)
		buffer_printf(out, "nameserver %s\n", servers.text[i]);
	// Without it an answer over 512 bytes is asked for again by TCP, which pasta's forwarder
	// takes in its newer versions only.
	if (servers.forwarder)
		buffer_puts(out, "options edns0\n");
	return 0;
}
