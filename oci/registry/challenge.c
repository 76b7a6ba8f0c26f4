// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/challenge.h"

#include "base/text.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

struct scanner {
	const char *start, *at;
	struct error *err;
};

static int scanner_fail(struct scanner *s, enum error_kind kind, const char *what)
{
	return error_set(s->err, kind, "WWW-Authenticate, byte %zu: %s",
		(size_t)(s->at - s->start) + 1, what);
}

static void skip_space(struct scanner *s)
{
	while (*s->at == ' ' || *s->at == '\t')
		s->at++;
}

// An empty element of a list is allowed: ", ,Basic".
static void skip_separators(struct scanner *s)
{
	while (*s->at == ' ' || *s->at == '\t' || *s->at == ',')
		s->at++;
}

static bool is_token(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static size_t scan_token(struct scanner *s)
{
	const char *start = s->at;

	while (is_token(*s->at))
		s->at++;
	return (size_t)(s->at - start);
}

// A value, quoted or not, into `text` (CHALLENGE_TEXT_MAX bytes).
static int scan_value(struct scanner *s, char *text)
{
	bool quoted = *s->at == '"';
	size_t length = 0;

	s->at += quoted;
	for (;; s->at++) {
		char c = *s->at;

		if (quoted ? c == '"' : !is_token(c) && !(c && strchr("/:=", c)))
			break;
		if (quoted && c == '\\')
			c = *++s->at;
		if (c == '\0')
			return scanner_fail(s, ERROR_INVALID, "a quoted string has no end");
		// What comes out of here goes into a URL and into error texts.
		if ((unsigned char)c < ' ' || c == 0x7f)
			return scanner_fail(s, ERROR_INVALID, "a control character");
		if (length + 1 == CHALLENGE_TEXT_MAX)
			return scanner_fail(s, ERROR_LIMIT, "a value is longer than 1023 bytes");
		text[length++] = c;
	}
	s->at += quoted;
	text[length] = '\0';
	return 0;
}

static char *challenge_slot(struct challenge *c, const char *name, size_t length)
{
	if (length == 5 && strncasecmp(name, "realm", 5) == 0)
		return c->realm;
	if (length == 7 && strncasecmp(name, "service", 7) == 0)
		return c->service;
	if (length == 5 && strncasecmp(name, "scope", 5) == 0)
		return c->scope;
	return NULL;
}

// Is what stands here `name =`, so a parameter and not the next scheme?
static bool at_parameter(const struct scanner *s)
{
	const char *p = s->at;

	if (!is_token(*p))
		return false;
	while (is_token(*p))
		p++;
	while (*p == ' ' || *p == '\t')
		p++;
	return *p == '=';
}

static int scan_parameter(struct scanner *s, struct challenge *c)
{
	char unused[CHALLENGE_TEXT_MAX];
	const char *name = s->at;
	size_t length = scan_token(s);
	char *slot = challenge_slot(c, name, length);

	if (slot && *slot)
		return scanner_fail(s, ERROR_INVALID, "a parameter is given twice");
	skip_space(s);
	s->at++; // '=', as at_parameter() saw
	skip_space(s);
	return scan_value(s, slot ? slot : unused);
}

// Credentials in the form of Negotiate: letters, digits, "-._~+/" and '=' at the end.
static void skip_token68(struct scanner *s)
{
	while (is_token(*s->at) || *s->at == '/')
		s->at++;
	while (*s->at == '=')
		s->at++;
}

static bool at_token68(const struct scanner *s)
{
	struct scanner ahead = *s;

	skip_token68(&ahead);
	if (ahead.at == s->at)
		return false;
	skip_space(&ahead);
	return *ahead.at == ',' || *ahead.at == '\0';
}

static int scan_parameters(struct scanner *s, struct challenge *c)
{
	for (;;) {
		skip_separators(s);
		if (!at_parameter(s))
			return 0;
		if (scan_parameter(s, c) < 0)
			return -1;
		skip_space(s);
		if (*s->at && *s->at != ',')
			return scanner_fail(s, ERROR_INVALID, "expected a comma");
	}
}

static int scan_challenge(struct scanner *s, struct challenge *c)
{
	const char *name = s->at;
	size_t length = scan_token(s);

	if (length == 0)
		return scanner_fail(s, ERROR_INVALID, "expected a scheme");
	if (*s->at && *s->at != ' ' && *s->at != '\t' && *s->at != ',')
		return scanner_fail(s, ERROR_INVALID, "expected a space behind the scheme");
	if (length == 5 && strncasecmp(name, "Basic", 5) == 0)
		c->scheme = CHALLENGE_BASIC;
	else if (length == 6 && strncasecmp(name, "Bearer", 6) == 0)
		c->scheme = CHALLENGE_BEARER;
	skip_space(s);
	if (*s->at != ',' && at_token68(s)) {
		skip_token68(s);
		return 0;
	}
	return scan_parameters(s, c);
}

int challenge_parse(const char *value, struct challenges *list, struct error *err)
{
	struct scanner s = {.start = value, .at = value, .err = err};
	size_t count = list->count;

	if (strnlen(value, CHALLENGE_BYTES_MAX + 1) > CHALLENGE_BYTES_MAX)
		return scanner_fail(&s, ERROR_LIMIT, "the header is longer than 8192 bytes");
	for (skip_separators(&s); *s.at; skip_separators(&s)) {
		if (count == CHALLENGE_MAX)
			return scanner_fail(&s, ERROR_LIMIT, "more than 8 challenges");
		list->items[count] = (struct challenge){0};
		if (scan_challenge(&s, &list->items[count]) < 0)
			return -1;
		count++;
	}
	list->count = count;
	return 0;
}

const struct challenge *challenge_find(const struct challenges *list, enum challenge_scheme scheme)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->items[i].scheme == scheme)
			return &list->items[i];
	return NULL;
}
