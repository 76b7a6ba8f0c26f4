// SPDX-License-Identifier: Apache-2.0
//
// The text is cut from the outside in: "@digest" from the right, then the tag (the last ':' behind
// the last '/'), then the domain (the first component, if it looks like one); what is left is the
// path. A checker names the rule that its part breaks and where.
#include "oci/image/reference.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <stdio.h>

#define DIGITS "0123456789"
#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define UPPER  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

static const char default_domain[] = "docker.io";
static const char legacy_domain[] = "index.docker.io";
static const char official[] = "library/";

struct span {
	const char *begin, *end;
};

static bool one_of(char c, const char *set)
{
	return c != '\0' && strchr(set, c) != NULL;
}

static const char *skip(struct span s, const char *set)
{
	while (s.begin < s.end && one_of(*s.begin, set))
		s.begin++;
	return s.begin;
}

static bool span_is(struct span s, const char *text)
{
	size_t n = strlen(text);

	return (size_t)(s.end - s.begin) == n && memcmp(s.begin, text, n) == 0;
}

static const char *find(struct span s, char c)
{
	return memchr(s.begin, c, (size_t)(s.end - s.begin));
}

static const char *find_last(struct span s, char c)
{
	return memrchr(s.begin, c, (size_t)(s.end - s.begin));
}

// One component of the path: [a-z0-9]+ ((. | _ | __ | -+) [a-z0-9]+)*. `*at` moves to the end or to
// the character that breaks the returned rule.
static const char *check_component(struct span s, const char **at)
{
	for (;;) {
		const char *word = s.begin;

		s.begin = skip(s, LOWER DIGITS);
		*at = s.begin;
		if (s.begin < s.end && one_of(*s.begin, UPPER))
			return "the repository name must be lower case";
		if (s.begin < s.end && !one_of(*s.begin, "._-"))
			return "the repository name may hold only a-z, 0-9, '.', '_', '-' and '/'";
		if (s.begin == word)
			return "parts of the repository name begin and end with a letter or digit";
		if (s.begin == s.end)
			return NULL;

		const char *separator = s.begin;
		s.begin = skip(s, *separator == '-' ? "-" : "._");
		size_t n = (size_t)(s.begin - separator);
		bool fine = n == 1 || *separator == '-' ||
			    (n == 2 && separator[0] == '_' && separator[1] == '_');
		if (!fine || (s.begin < s.end && one_of(*s.begin, "._-")))
			return "within the repository name only '.', '_', '__' or a run of '-' "
			       "separates letters and digits";
	}
}

static const char *check_path(struct span s, const char **at)
{
	for (;;) {
		const char *slash = find(s, '/');
		struct span part = {s.begin, slash ? slash : s.end};

		*at = s.begin;
		if (part.begin == part.end)
			return "the repository name has an empty part";
		const char *rule = check_component(part, at);
		if (rule || !slash)
			return rule;
		s.begin = slash + 1;
	}
}

static const char *check_host_name(struct span s, const char **at)
{
	for (;;) {
		const char *dot = find(s, '.');
		struct span label = {s.begin, dot ? dot : s.end};

		*at = skip(label, LOWER UPPER DIGITS "-");
		if (*at < label.end)
			return "the registry's name may hold only letters, digits, '-' and '.'";
		*at = label.begin;
		if (label.begin == label.end)
			return "the registry's name has an empty part";
		if (*label.begin == '-' || label.end[-1] == '-')
			return "a part of the registry's name must not begin or end with '-'";
		if (!dot)
			return NULL;
		s.begin = dot + 1;
	}
}

static const char *check_ipv6(struct span s, const char **at)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;
	size_t n = (size_t)(s.end - s.begin);

	*at = skip(s, DIGITS "abcdefABCDEF:");
	if (*at < s.end)
		return "an IPv6 address may hold only hexadecimal digits and ':'";
	*at = s.begin;
	if (n >= sizeof(text))
		return "not an IPv6 address";
	memcpy(text, s.begin, n);
	text[n] = '\0';
	return inet_pton(AF_INET6, text, &address) == 1 ? NULL : "not an IPv6 address";
}

static const char *check_port(struct span s, const char **at)
{
	uint64_t port;

	*at = s.begin;
	if (!parse_u64_n(s.begin, (size_t)(s.end - s.begin), &port) || port < 1 || port > 65535)
		return "the registry's port must be a number from 1 to 65535";
	return NULL;
}

static const char *check_domain(struct span s, const char **at)
{
	struct span host = s;
	const char *rule;

	*at = s.begin;
	if (s.end - s.begin > OCI_DOMAIN_MAX)
		return "the registry's name is longer than 255 characters";
	if (*s.begin == '[') {
		const char *bracket = find(s, ']');
		if (!bracket)
			return "']' is missing behind the IPv6 address";
		rule = check_ipv6((struct span){s.begin + 1, bracket}, at);
		host.end = bracket + 1;
		if (!rule && host.end < s.end && *host.end != ':') {
			*at = host.end;
			return "only ':' and a port may follow the IPv6 address";
		}
	} else {
		const char *colon = find(s, ':');
		host.end = colon ? colon : s.end;
		rule = check_host_name(host, at);
	}
	if (rule || host.end == s.end)
		return rule;
	return check_port((struct span){host.end + 1, s.end}, at);
}

static const char *check_tag(struct span s, const char **at)
{
	*at = s.begin;
	if (s.begin == s.end)
		return "the tag behind ':' is empty";
	if (one_of(*s.begin, ".-"))
		return "the tag must begin with a letter, a digit or '_'";
	if (s.end - s.begin > OCI_TAG_MAX)
		return "the tag is longer than 128 characters";
	*at = skip(s, LOWER UPPER DIGITS "_.-");
	return *at < s.end ? "the tag may hold only letters, digits, '_', '.' and '-'" : NULL;
}

// Mistakes that people make with the whole text, for which the grammar's answer would not help.
static const char *check_whole(struct span s, const char **at)
{
	*at = s.begin;
	if (s.begin == s.end)
		return "the reference is empty";
	if (s.end - s.begin >= OCI_REFERENCE_TEXT_MAX)
		return "the reference is longer than 799 characters";
	const char *scheme = strstr(s.begin, "://");
	if (scheme && skip(s, LOWER UPPER) == scheme)
		return "leave out the scheme: registry/repository:tag";
	for (*at = s.begin; *at < s.end; (*at)++)
		if (one_of(**at, " \t\r\n"))
			return "a reference holds no spaces";
	// Docker takes 64 hexadecimal digits for an image id, which names no repository.
	*at = s.begin;
	if (s.end - s.begin == 64 && skip(s, DIGITS "abcdef") == s.end)
		return "64 hexadecimal digits are an image id, not a name; write name@sha256:…";
	return NULL;
}

static bool has_domain(struct span name, const char *slash)
{
	struct span first = {name.begin, slash};

	if (!slash || slash == name.begin)
		return false;
	if (find(first, '.') || find(first, ':') || span_is(first, "localhost"))
		return true;
	for (const char *p = first.begin; p < first.end; p++)
		if (one_of(*p, UPPER))
			return true;
	return false;
}

static void copy(char *to, struct span s)
{
	size_t n = (size_t)(s.end - s.begin);

	memcpy(to, s.begin, n);
	to[n] = '\0';
}

// Splits the domain from the name; what Docker leaves out is completed.
static const char *take_name(struct span name, struct oci_reference *r, const char **at)
{
	const char *slash = find(name, '/');
	struct span path = name;
	const char *rule;

	if (has_domain(name, slash)) {
		struct span domain = {name.begin, slash};
		rule = check_domain(domain, at);
		if (rule)
			return rule;
		if (span_is(domain, legacy_domain))
			domain = (struct span){
				default_domain, default_domain + strlen(default_domain)};
		copy(r->domain, domain);
		path.begin = slash + 1;
	} else {
		memcpy(r->domain, default_domain, sizeof(default_domain));
	}

	rule = check_path(path, at);
	if (rule)
		return rule;
	bool complete = streq(r->domain, default_domain) && !find(path, '/');
	size_t before = complete ? strlen(official) : 0;
	*at = path.begin;
	if (before + (size_t)(path.end - path.begin) > OCI_PATH_MAX)
		return "the repository name is longer than 255 characters";
	memcpy(r->path, official, before);
	copy(r->path + before, path);
	return NULL;
}

static int fail(struct error *err, const char *s, const char *at, const char *rule)
{
	return error_set(err, ERROR_INVALID, "image \"%.200s\": %s (position %zu)", s, rule,
		(size_t)(at - s) + 1);
}

int oci_reference_parse(const char *s, struct oci_reference *r, struct error *err)
{
	struct oci_reference out = {0};
	struct span name = {s, s + strlen(s)};
	const char *at = s, *rule = check_whole(name, &at);

	if (rule)
		return fail(err, s, at, rule);

	const char *digest = find(name, '@');
	if (digest) {
		struct error why;
		if (oci_digest_parse(digest + 1, &out.digest, &why) < 0)
			return fail(err, s, digest + 1, why.text);
		name.end = digest;
	}

	const char *slash = find_last(name, '/');
	const char *tag = find_last((struct span){slash ? slash : name.begin, name.end}, ':');
	if (tag) {
		struct span text = {tag + 1, name.end};
		rule = check_tag(text, &at);
		if (rule)
			return fail(err, s, at, rule);
		copy(out.tag, text);
		name.end = tag;
	} else if (!digest) {
		memcpy(out.tag, "latest", sizeof("latest"));
	}

	rule = take_name(name, &out, &at);
	if (rule)
		return fail(err, s, at, rule);
	*r = out;
	return 0;
}

static const char *format(const struct oci_reference *r, const char *domain, const char *path,
	char text[OCI_REFERENCE_TEXT_MAX])
{
	snprintf(text, OCI_REFERENCE_TEXT_MAX, "%s%s%s%s%s%s%s", domain, domain[0] ? "/" : "", path,
		r->tag[0] ? ":" : "", r->tag, r->digest.text[0] ? "@" : "", r->digest.text);
	return text;
}

const char *oci_reference_format(const struct oci_reference *r, char text[OCI_REFERENCE_TEXT_MAX])
{
	return format(r, r->domain, r->path, text);
}

static bool reads_back(const char *text, const struct oci_reference *r)
{
	struct oci_reference again;
	struct error err;

	return oci_reference_parse(text, &again, &err) == 0 && streq(again.domain, r->domain) &&
	       streq(again.path, r->path);
}

// A short form counts only if it reads back as the same image: "docker.io/localhost/x" without its
// domain would be another registry's.
const char *oci_reference_familiar(const struct oci_reference *r, char text[OCI_REFERENCE_TEXT_MAX])
{
	if (!streq(r->domain, default_domain))
		return oci_reference_format(r, text);
	if (starts_with(r->path, official) &&
		reads_back(format(r, "", r->path + strlen(official), text), r))
		return text;
	if (reads_back(format(r, "", r->path, text), r))
		return text;
	return oci_reference_format(r, text);
}

const char *oci_reference_target(const struct oci_reference *r)
{
	return r->digest.text[0] ? r->digest.text : r->tag;
}
