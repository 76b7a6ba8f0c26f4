// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/proxy_request.h"

#include "base/memory.h"
#include "base/text.h"

#include <ctype.h>
#include <strings.h>

static int refuse(const char **why, int status, const char *text)
{
	*why = text;
	return status;
}

// The line at *p, ended by CR LF, without it. NULL: there is none, or it holds what ends lines for
// others.
static char *take_line(char **p)
{
	char *line = *p, *end = strstr(line, "\r\n");
	if (!end)
		return NULL;
	*end = '\0';
	*p = end + 2;
	for (const char *c = line; *c; c++)
		if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
			return NULL;
	return line;
}

static int parse_first(char *line, struct proxy_request *r, const char **why)
{
	char *target = strchr(line, ' ');
	char *version = target ? strchr(target + 1, ' ') : NULL;
	if (!version || strchr(version + 1, ' '))
		return refuse(why, 400, "the first line is no request");
	*target++ = '\0';
	*version++ = '\0';
	r->target = target;
	r->old = streq(version, "HTTP/1.0");
	if (!r->old && !streq(version, "HTTP/1.1"))
		return refuse(why, 505, "another version of HTTP than is spoken here");
	r->head = streq(line, "HEAD");
	if (!r->head && !streq(line, "GET"))
		return refuse(why, 405, "only GET and HEAD are served here");
	if (*target != '/')
		return refuse(why, 400, "a path is expected; this is no forward proxy");
	return 0;
}

static bool is_token(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr("!#$%&'*+-.^_`|~", s[i]))
			return false;
	return n > 0;
}

// Is the word in a list with commas?
static bool has_item(const char *list, const char *word)
{
	size_t n = strlen(word);
	for (const char *p = list; *p;) {
		p += strspn(p, " \t,");
		size_t size = strcspn(p, " \t,;");
		if (size == n && strncasecmp(p, word, n) == 0)
			return true;
		p += strcspn(p, ",");
	}
	return false;
}

static int set_once(const char **slot, const char *value, const char **why)
{
	if (*slot)
		return refuse(why, 400, "a field that stands twice");
	*slot = value;
	return 0;
}

struct fields {
	const char *host, *length, *connection;
};

static int take_field(const char *name, const char *value, struct fields *f,
	struct proxy_request *r, const char **why)
{
	if (strcasecmp(name, "transfer-encoding") == 0 || strcasecmp(name, "upgrade") == 0)
		return refuse(why, 400, "requests have no bodies here");
	if (strcasecmp(name, "host") == 0)
		return set_once(&f->host, value, why);
	if (strcasecmp(name, "content-length") == 0)
		return set_once(&f->length, value, why);
	if (strcasecmp(name, "range") == 0)
		return set_once(&r->range, value, why);
	if (strcasecmp(name, "if-range") == 0)
		return set_once(&r->if_range, value, why);
	if (strcasecmp(name, "if-none-match") == 0)
		return set_once(&r->if_none_match, value, why);
	if (strcasecmp(name, "connection") == 0)
		f->connection = value;
	if (strcasecmp(name, "accept") == 0 &&
		has_item(value, "application/vnd.pypi.simple.v1+json"))
		r->wants_json = true;
	return 0;
}

static int parse_field(char *line, struct fields *f, struct proxy_request *r, const char **why)
{
	char *colon = strchr(line, ':');
	// No space before the colon, no folded lines: both have been read in different ways.
	if (!colon || !is_token(line, (size_t)(colon - line)))
		return refuse(why, 400, "a field that cannot be read");
	*colon = '\0';
	char *value = colon + 1 + strspn(colon + 1, " \t");
	size_t n = strlen(value);
	while (n && (value[n - 1] == ' ' || value[n - 1] == '\t'))
		value[--n] = '\0';
	return take_field(line, value, f, r, why);
}

int proxy_request_parse(char *text, size_t size, struct proxy_request *r, const char **why)
{
	*r = (struct proxy_request){0};
	*why = "";
	struct fields f = {0};
	char *p = text, *line;
	if (strlen(text) != size)
		return refuse(why, 400, "a NUL in the head");
	line = take_line(&p);
	int status =
		line ? parse_first(line, r, why) : refuse(why, 400, "the first line is no request");
	for (size_t n = 0; status == 0; n++) {
		line = take_line(&p);
		if (!line)
			return refuse(why, 400, "a line that cannot be read");
		if (!*line)
			break;
		if (n == PROXY_FIELDS_MAX)
			return refuse(why, 431, "too many fields");
		status = parse_field(line, &f, r, why);
	}
	if (status)
		return status;
	if (*p)
		return refuse(why, 400, "more than a head");
	if (!r->old && !f.host)
		return refuse(why, 400, "there is no Host");
	if (f.length && !streq(f.length, "0"))
		return refuse(why, 413, "requests have no bodies here");
	r->keep_alive = !r->old && !(f.connection && has_item(f.connection, "close"));
	return 0;
}

int proxy_range_parse(const char *text, uint64_t size, uint64_t *first, uint64_t *last)
{
	if (strncasecmp(text, "bytes=", 6) != 0)
		return 0;
	const char *from = text + 6, *dash = strchr(from, '-');
	if (!dash || strchr(from, ','))
		return 0;
	uint64_t a = 0, b = 0;
	bool has_a = parse_u64_n(from, (size_t)(dash - from), &a), has_b = parse_u64(dash + 1, &b);
	if ((!has_a && dash != from) || (!has_b && dash[1]) || (!has_a && !has_b))
		return 0;
	if (!has_a) { // the last b bytes
		if (b == 0 || size == 0)
			return -1;
		*first = b < size ? size - b : 0;
		*last = size - 1;
		return 1;
	}
	if (has_b && b < a)
		return 0;
	if (a >= size)
		return -1;
	*first = a;
	*last = has_b && b < size ? b : size - 1;
	return 1;
}

bool proxy_tag_in(const char *list, const char *etag)
{
	size_t n = strlen(etag);
	for (const char *p = list; *p;) {
		p += strspn(p, " \t,");
		if (*p == '*')
			return true;
		if (strncmp(p, "W/", 2) == 0)
			p += 2;
		size_t size = strcspn(p, " \t,");
		if (size == n && strncmp(p, etag, n) == 0)
			return true;
		p += size;
	}
	return false;
}
