// SPDX-License-Identifier: Apache-2.0
//
// Credentials in a netrc file, and as they are sent.
#include "agent/environment/proxy_address.h"
#include "base/text.h"
#include "oci/registry/base64.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

struct entry {
	char *machine, *user, *password; // machine NULL: none yet; "": the default
};

static void entry_release(struct entry *e)
{
	free(e->machine);
	free(e->user);
	free(e->password);
	*e = (struct entry){0};
}

// The next word, or NULL. Words may stand in double quotes, with backslashes (as curl reads them).
static char *next_word(const char **p)
{
	cleanup_buffer struct buffer word = {0};
	const char *s = *p;
	while (isspace((unsigned char)*s))
		s++;
	if (!*s)
		return NULL;
	bool quoted = *s == '"';
	for (s += quoted; *s && (quoted ? *s != '"' : !isspace((unsigned char)*s)); s++) {
		if (quoted && *s == '\\' && s[1])
			s++;
		buffer_putc(&word, *s);
	}
	*p = s + (quoted && *s == '"');
	return buffer_steal(&word);
}

static void skip_line(const char **p)
{
	*p += strcspn(*p, "\n");
}

// A macro goes on until an empty line.
static void skip_macro(const char **p)
{
	const char *end = strstr(*p, "\n\n");
	*p = end ? end + 2 : *p + strlen(*p);
}

static bool host_is(const char *origin, const char *machine)
{
	const char *host = strstr(origin, "://") + 3;
	bool bracket = *host == '[';
	size_t n = strcspn(host + bracket, bracket ? "]" : ":");
	return strlen(machine) == n && strncasecmp(host + bracket, machine, n) == 0;
}

// For each source on that machine: names without a port stand for every port.
static void take(struct package_credentials *c, struct entry *e, const struct json_strings *sources)
{
	for (size_t i = 0; e->machine && e->user && i < sources->count; i++) {
		char origin[PACKAGE_ORIGIN_MAX];
		struct error ignored;
		if (package_url_origin(sources->items[i], origin, &ignored) < 0 ||
			(*e->machine && !host_is(origin, e->machine)))
			continue;
		c->items = xreallocarray(c->items, c->count + 1, sizeof(*c->items));
		c->items[c->count++] = (struct package_credential){.origin = xstrdup(origin),
			.user = xstrdup(e->user),
			.password = xstrdup(e->password ? e->password : ""),
			.path = xstrdup("")};
	}
	entry_release(e);
}

static void take_field(char **field, const char **p)
{
	free(*field);
	*field = next_word(p);
}

void package_credentials_add_netrc(
	struct package_credentials *c, const char *text, const struct json_strings *sources)
{
	struct entry e = {0};
	for (const char *p = text;;) {
		cleanup_free char *word = next_word(&p);
		if (!word)
			break;
		if (*word == '#') {
			skip_line(&p);
		} else if (streq(word, "machine")) {
			take(c, &e, sources);
			take_field(&e.machine, &p);
		} else if (streq(word, "default")) {
			take(c, &e, sources);
			e.machine = xstrdup("");
		} else if (streq(word, "login")) {
			take_field(&e.user, &p);
		} else if (streq(word, "password")) {
			take_field(&e.password, &p);
		} else if (streq(word, "account")) {
			free(next_word(&p));
		} else if (streq(word, "macdef")) {
			skip_macro(&p);
		}
	}
	take(c, &e, sources);
}

void package_credential_header(const struct package_credential *c, struct buffer *out)
{
	cleanup_buffer struct buffer pair = {0};
	buffer_printf(&pair, "%s:%s", c->user, c->password);
	buffer_puts(out, "Authorization: Basic ");
	base64_encode(pair.data, pair.size, out);
}
