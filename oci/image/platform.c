// SPDX-License-Identifier: Apache-2.0
#include "oci/image/platform.h"

#include "base/text.h"

#include <stdio.h>
#include <sys/utsname.h>

// Other names of architectures, uname(2)'s among them, as Go calls them. A NULL variant leaves the
// given one.
static const struct {
	const char *name, *architecture, *variant;
} aliases[] = {
	{"x86_64", "amd64", NULL},
	{"x86-64", "amd64", NULL},
	{"i386", "386", ""},
	{"i486", "386", ""},
	{"i586", "386", ""},
	{"i686", "386", ""},
	{"aarch64", "arm64", NULL},
	{"armhf", "arm", "v7"},
	{"armel", "arm", "v6"},
	{"armv5l", "arm", "v5"},
	{"armv6l", "arm", "v6"},
	{"armv7l", "arm", "v7"},
	{"armv8l", "arm", "v8"},
	{"loongarch64", "loong64", NULL},
};

// Words that stand alone: an architecture on this machine's system, or the reverse.
static const char *const architectures[] = {"386", "amd64", "arm", "arm64", "loong64", "mips",
	"mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x", "wasm"};
static const char *const systems[] = {
	"darwin", "freebsd", "linux", "netbsd", "openbsd", "solaris", "wasip1", "windows"};

static bool listed(const char *s, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (streq(s, list[i]))
			return true;
	return false;
}
#define LISTED(s, list) listed((s), (list), sizeof(list) / sizeof((list)[0]))

static void lower(char *s)
{
	for (; *s; s++)
		if (*s >= 'A' && *s <= 'Z')
			*s += 'a' - 'A';
}

static void put(char to[32], const char *s)
{
	snprintf(to, 32, "%s", s);
}

void oci_platform_normalise(struct oci_platform *p)
{
	lower(p->os);
	lower(p->architecture);
	lower(p->variant);
	if (streq(p->os, "macos"))
		put(p->os, "darwin");
	for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++) {
		if (!streq(p->architecture, aliases[i].name))
			continue;
		put(p->architecture, aliases[i].architecture);
		if (aliases[i].variant)
			put(p->variant, aliases[i].variant);
		break;
	}

	// "8" means "v8".
	size_t n = strlen(p->variant);
	if (n > 0 && n < sizeof(p->variant) - 1 && p->variant[0] >= '0' && p->variant[0] <= '9') {
		memmove(p->variant + 1, p->variant, n + 1);
		p->variant[0] = 'v';
	}
	if (streq(p->architecture, "arm64") && (p->variant[0] == '\0' || streq(p->variant, "v8.0")))
		put(p->variant, "v8");
	else if (streq(p->architecture, "arm64") && streq(p->variant, "v9.0"))
		put(p->variant, "v9");
	else if (streq(p->architecture, "arm") && p->variant[0] == '\0')
		put(p->variant, "v7");
	else if (streq(p->architecture, "amd64") && streq(p->variant, "v1"))
		put(p->variant, "");
}

struct oci_platform oci_platform_host(void)
{
	struct oci_platform p = {.os = "linux"};
	struct utsname name;

	// uname(2) fails for a bad address only.
	if (uname(&name) == 0)
		snprintf(p.architecture, sizeof(p.architecture), "%.31s", name.machine);
	oci_platform_normalise(&p);
	return p;
}

static int fail(struct error *err, const char *s, const char *rule)
{
	return error_set(err, ERROR_INVALID,
		"platform \"%.100s\": %s; expected os/architecture[/variant], such as linux/amd64",
		s, rule);
}

// One word stands for the architecture or for the system.
static bool complete(const char *word, struct oci_platform *p)
{
	struct oci_platform host = oci_platform_host();

	put(p->os, host.os);
	put(p->architecture, word);
	oci_platform_normalise(p);
	if (LISTED(p->architecture, architectures))
		return true;

	struct oci_platform system = host;
	put(system.os, word);
	oci_platform_normalise(&system);
	*p = system;
	return LISTED(p->os, systems);
}

int oci_platform_parse(const char *s, struct oci_platform *p, struct error *err)
{
	struct oci_platform out = {0};
	char *const parts[] = {out.os, out.architecture, out.variant};
	size_t count = 0;

	for (const char *at = s;; at++) {
		size_t n = strcspn(at, "/");
		if (count == 3)
			return fail(err, s, "more than three parts");
		if (n == 0)
			return fail(err, s, "a part is empty");
		if (n >= sizeof(out.os))
			return fail(err, s, "a part is longer than 31 characters");
		if (strspn(at,
			    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") <
			n)
			return fail(err, s, "only letters, digits, '_', '.' and '-' are allowed");
		memcpy(parts[count++], at, n);
		at += n;
		if (*at == '\0')
			break;
	}

	if (count > 1) {
		oci_platform_normalise(&out);
	} else {
		char word[sizeof(out.os)];
		memcpy(word, out.os, sizeof(word));
		if (!complete(word, &out))
			return fail(err, s, "neither an architecture nor a system that is known");
	}
	*p = out;
	return 0;
}

const char *oci_platform_format(const struct oci_platform *p, char text[OCI_PLATFORM_TEXT_MAX])
{
	snprintf(text, OCI_PLATFORM_TEXT_MAX, "%s/%s%s%s", p->os, p->architecture,
		p->variant[0] ? "/" : "", p->variant);
	return text;
}

// Variants of these architectures are ordered, and a processor runs what was built for the lower
// ones: "v7" is 70, "v8.2" is 82; -1 for other words. Elsewhere a variant means nothing to us.
static int variant_level(const struct oci_platform *p)
{
	const char *v = p->variant;

	if (streq(p->architecture, "amd64") && v[0] == '\0')
		return 10;
	if (v[0] != 'v' || v[1] < '1' || v[1] > '9')
		return -1;
	int level = (v[1] - '0') * 10;
	if (v[2] == '\0')
		return level;
	if (v[2] != '.' || v[3] < '0' || v[3] > '9' || v[4] != '\0')
		return -1;
	return level + v[3] - '0';
}

int oci_platform_match(const struct oci_platform *want, const struct oci_platform *have)
{
	enum { EXACT = 1000, NONE_GIVEN = 1 };
	struct oci_platform w = *want, h = *have;
	static const char *const ordered[] = {"amd64", "arm", "arm64"};

	oci_platform_normalise(&w);
	oci_platform_normalise(&h);
	if (!streq(w.os, h.os) || !streq(w.architecture, h.architecture))
		return 0;
	if (streq(w.variant, h.variant))
		return EXACT;
	if (LISTED(w.architecture, ordered)) {
		int level = variant_level(&h);
		return level >= 0 && level < variant_level(&w) ? NONE_GIVEN + level : 0;
	}
	return h.variant[0] == '\0' ? NONE_GIVEN : 0;
}
