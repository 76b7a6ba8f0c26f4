// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/proxy_address.h"

#include "agent/environment/proxy.h"
#include "base/text.h"
#include "base/weaken.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

struct parts { // of an address
	bool tls;
	const char *user, *host, *rest; // rest: from the path on
	size_t user_size, host_size;
};

static bool split(const char *url, struct parts *p)
{
	*p = (struct parts){.tls = strncasecmp(url, "https://", 8) == 0};
	if (!p->tls && strncasecmp(url, "http://", 7) != 0)
		return false;
	const char *authority = url + (p->tls ? 8 : 7);
	size_t n = strcspn(authority, "/?#");
	p->host = authority;
	for (size_t i = 0; i < n; i++)
		if (authority[i] == '@') { // the last one ends user and password
			p->user = authority;
			p->user_size = i;
			p->host = authority + i + 1;
		}
	p->rest = authority + n;
	p->host_size = (size_t)(p->rest - p->host);
	return p->host_size > 0;
}

static bool is_host(const char *host, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (!isalnum((unsigned char)host[i]) && !strchr("-._:[]", host[i]))
			return false;
	return size > 0 && size < 256 && *host != ':' && *host != '.';
}

// How long conda's "/t/TOKEN" at the start of a path is; 0: there is none.
static size_t token_size(const char *path)
{
	if (!starts_with(path, "/t/"))
		return 0;
	size_t n = strcspn(path + 3, "/?#");
	return n && path[3 + n] == '/' ? 3 + n : 0;
}

// The host of an address below a server of ours, as some tools write it (pip escapes the ':' before
// a port in every path). How long it is there; 0: it is none.
static size_t take_host(const char *text, char host[256])
{
	static const struct {
		const char *escape;
		char c;
	} escapes[] = {{"%3a", ':'}, {"%5b", '['}, {"%5d", ']'}};
	size_t n = 0, at = 0;
	while (text[at] && !strchr("/?#", text[at])) {
		char c = text[at];
		size_t size = 1;
		for (size_t i = 0; i < array_size(escapes); i++)
			if (strncasecmp(text + at, escapes[i].escape, 3) == 0) {
				c = escapes[i].c;
				size = 3;
			}
		if (n == 255)
			return 0;
		host[n++] = c;
		at += size;
	}
	host[n] = '\0';
	return is_host(host, n) ? at : 0;
}

// Is a segment of the path "." or "..", plainly or by escapes? Servers, caches and we could then
// mean different things by one address.
static bool has_dots(const char *path)
{
	for (const char *p = path; *p && *p != '?'; p++) {
		if (*p != '/')
			continue;
		size_t dots = 0;
		const char *s = p + 1;
		for (;; dots++) {
			if (*s == '.')
				s++;
			else if (strncasecmp(s, "%2e", 3) == 0)
				s += 3;
			else
				break;
		}
		bool ends = !*s || *s == '/' || *s == '?' || strncasecmp(s, "%2f", 3) == 0 ||
			    strncasecmp(s, "%5c", 3) == 0;
		if (ends && (dots == 1 || dots == 2))
			return true;
	}
	return false;
}

int package_url_of_target(const char *target, char url[PACKAGE_URL_MAX], struct error *err)
{
	bool tls = starts_with(target, "/https/");
	if (!tls && !starts_with(target, "/http/"))
		return error_set(err, ERROR_INVALID,
			"addresses have the form /https/host/path here, not \"%.100s\"", target);
	const char *host = target + (tls ? 7 : 6);
	char name[256];
	size_t host_size = take_host(host, name);
	const char *path = host + host_size;
	if (!host_size)
		return error_set(err, ERROR_INVALID, "\"%.100s\" names no host", target);
	for (const char *p = path; *p; p++)
		if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f || *p == '#' ||
			*p == '\\')
			return error_set(err, ERROR_INVALID,
				"\"%.100s\" holds a character that has to be escaped", target);
	if (has_dots(path) && !weakened("package_dots"))
		return error_set(err, ERROR_INVALID, "\"%.100s\" has dot segments", target);
	int n = snprintf(url, PACKAGE_URL_MAX, "%s://%s%s%s", tls ? "https" : "http", name,
		*path == '/' ? "" : "/", path);
	if (n >= PACKAGE_URL_MAX)
		return error_set(err, ERROR_INVALID, "an address of more than %d bytes",
			PACKAGE_URL_MAX - 1);
	return 0;
}

bool package_url_inside(const char *url, unsigned port, struct buffer *out)
{
	struct parts p;
	if (!split(url, &p) || !is_host(p.host, p.host_size))
		return false;
	buffer_printf(out, "http://127.0.0.1:%u/%s/%.*s%s", port, p.tls ? "https" : "http",
		(int)p.host_size, p.host, p.rest + token_size(p.rest));
	return true;
}

bool package_url_plain(const char *url, struct buffer *out)
{
	struct parts p;
	if (!split(url, &p) || !is_host(p.host, p.host_size))
		return false;
	buffer_printf(out, "%s://%.*s%s", p.tls ? "https" : "http", (int)p.host_size, p.host,
		p.rest + token_size(p.rest));
	return true;
}

int package_url_origin(const char *url, char origin[PACKAGE_ORIGIN_MAX], struct error *err)
{
	struct parts p;
	if (!split(url, &p) || !is_host(p.host, p.host_size))
		return error_set(err, ERROR_INVALID, "\"%.200s\" names no server", url);
	const char *own = p.tls ? ":443" : ":80";
	size_t n = p.host_size, k = strlen(own);
	if (n > k && memcmp(p.host + n - k, own, k) == 0)
		n -= k;
	int size = snprintf(
		origin, PACKAGE_ORIGIN_MAX, "%s://%.*s", p.tls ? "https" : "http", (int)n, p.host);
	for (int i = 0; i < size && i < PACKAGE_ORIGIN_MAX; i++)
		origin[i] = (char)tolower((unsigned char)origin[i]);
	return 0;
}

const char *package_proxy_url(struct arena *a, const char *url)
{
	cleanup_buffer struct buffer inside = {0};
	if (!package_url_inside(url, PACKAGE_PROXY_PORT, &inside))
		return arena_strdup(a, url);
	return arena_strdup(a, inside.data);
}

const char *package_proxy_original(struct arena *a, const char *url)
{
	const char *inside = arena_printf(a, "http://127.0.0.1:%d", PACKAGE_PROXY_PORT);
	size_t n = strlen(inside);
	char host[256];
	if (!starts_with(url, inside))
		return arena_strdup(a, url);
	bool tls = starts_with(url + n, "/https/");
	if (!tls && !starts_with(url + n, "/http/"))
		return arena_strdup(a, url);
	const char *rest = url + n + (tls ? 7 : 6);
	size_t size = take_host(rest, host);
	if (!size)
		return arena_strdup(a, url);
	return arena_printf(a, "%s://%s%s", tls ? "https" : "http", host, rest + size);
}

// ---- credentials

// Of two digits; -1: these are none.
static int hex_byte(const char *s)
{
	static const char digits[] = "0123456789abcdef";
	const char *high = strchr(digits, s[0] | 0x20), *low = strchr(digits, s[1] | 0x20);
	bool both = isxdigit((unsigned char)s[0]) && isxdigit((unsigned char)s[1]);
	return both ? (int)((high - digits) << 4 | (low - digits)) : -1;
}

static char *unescape(const char *s, size_t size)
{
	char *out = xmalloc(size + 1);
	size_t n = 0;
	for (size_t i = 0; i < size; i++) {
		int value = s[i] == '%' && size - i > 2 ? hex_byte(s + i + 1) : -1;
		if (value >= 0x20) {
			out[n++] = (char)value;
			i += 2;
		} else {
			out[n++] = s[i];
		}
	}
	out[n] = '\0';
	return out;
}

static struct package_credential *add(struct package_credentials *c, const char *origin)
{
	c->items = xreallocarray(c->items, c->count + 1, sizeof(*c->items));
	struct package_credential *item = &c->items[c->count++];
	*item = (struct package_credential){.origin = xstrdup(origin)};
	return item;
}

// The folder of an address, without the last '/'.
static char *path_of(const char *rest)
{
	size_t n = strcspn(rest, "?#");
	while (n && rest[n - 1] == '/')
		n--;
	return xstrndup(rest, n);
}

void package_credentials_add_url(struct package_credentials *c, const char *url)
{
	struct parts p;
	char origin[PACKAGE_ORIGIN_MAX];
	struct error ignored;
	if (!split(url, &p) || package_url_origin(url, origin, &ignored) < 0)
		return;
	size_t token = token_size(p.rest);
	if (!p.user_size && !token)
		return;
	struct package_credential *item = add(c, origin);
	const char *colon = p.user_size ? memchr(p.user, ':', p.user_size) : NULL;
	if (p.user_size) {
		size_t name = colon ? (size_t)(colon - p.user) : p.user_size;
		item->user = unescape(p.user, name);
		item->password = colon ? unescape(colon + 1, p.user_size - name - 1) : xstrdup("");
	}
	// A password is the server's; files lie beside the index. A token is the channel's.
	item->token = token ? xstrndup(p.rest, token) : NULL;
	item->path = token ? path_of(p.rest + token) : xstrdup("");
}

static const char *path_in(const char *url)
{
	struct parts p;
	return split(url, &p) ? p.rest : "";
}

char *package_credential_url(const struct package_credential *c, const char *url)
{
	const char *rest = path_in(url);
	if (!c || !c->token)
		return xstrdup(url);
	return xasprintf("%.*s%s%s", (int)(rest - url), url, c->token, rest);
}

const struct package_credential *package_credential_for(
	const struct package_credentials *c, const char *url)
{
	char origin[PACKAGE_ORIGIN_MAX];
	struct error ignored;
	if (package_url_origin(url, origin, &ignored) < 0)
		return NULL;
	const char *path = path_in(url);
	for (size_t i = 0; i < c->count; i++) {
		const struct package_credential *item = &c->items[i];
		size_t n = strlen(item->path);
		if (streq(item->origin, origin) && strncmp(path, item->path, n) == 0 &&
			(n == 0 || !path[n] || strchr("/?", path[n])))
			return item;
	}
	return NULL;
}

void package_credentials_release(struct package_credentials *c)
{
	for (size_t i = 0; i < c->count; i++) {
		struct package_credential *item = &c->items[i];
		free(item->origin);
		free(item->user);
		free(item->password);
		free(item->token);
		free(item->path);
	}
	free(c->items);
	*c = (struct package_credentials){0};
}
