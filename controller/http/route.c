// SPDX-License-Identifier: Apache-2.0
#include "controller/http/route.h"

#include "base/buffer.h"
#include "base/text.h"
#include "base/utf8.h"

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static char *decode(
	struct arena *a, const char *text, size_t size, bool plus_is_space, struct error *err)
{
	char *out = arena_alloc(a, size + 1);
	size_t length = 0;
	for (size_t i = 0; i < size; i++) {
		char c = text[i];
		if (c == '%') {
			int high = i + 1 < size ? hex_digit(text[i + 1]) : -1;
			int low = i + 2 < size ? hex_digit(text[i + 2]) : -1;
			if (high < 0 || low < 0) {
				error_set(err, ERROR_INVALID,
					"the URL has a %% without two hexadecimal digits");
				return NULL;
			}
			c = (char)(high << 4 | low);
			i += 2;
		} else if (c == '+' && plus_is_space) {
			c = ' ';
		}
		if (!c) {
			error_set(err, ERROR_INVALID, "the URL has a NUL");
			return NULL;
		}
		out[length++] = c;
	}
	if (utf8_valid(out, length) != length) {
		error_set(err, ERROR_INVALID, "the URL is not UTF-8");
		return NULL;
	}
	return out;
}

// Of a decoded segment, which may hold slashes that were encoded.
static bool parts_are_names(const char *s)
{
	for (;;) {
		size_t n = strcspn(s, "/");
		if (n == 0 || (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
			return false;
		if (!s[n])
			return true;
		s += n + 1;
	}
}

static size_t count_of(const char *s, size_t size, char c)
{
	size_t count = 0;
	for (size_t i = 0; i < size; i++)
		count += s[i] == c;
	return count;
}

static int parse_path(
	struct arena *a, const char *path, size_t size, struct target *t, struct error *err)
{
	if (size == 0 || path[0] != '/')
		return error_set(err, ERROR_INVALID, "the URL has no path");
	t->segments = arena_array(a, const char *, count_of(path, size, '/'));
	const char *end = path + size;
	for (const char *s = path + 1; s < end;) {
		const char *slash = memchr(s, '/', (size_t)(end - s));
		const char *stop = slash ? slash : end;
		const char *segment = decode(a, s, (size_t)(stop - s), false, err);
		if (!segment)
			return -1;
		if (!parts_are_names(segment))
			return error_set(err, ERROR_INVALID,
				"the path has an empty part, \".\" or \"..\" in it");
		t->segments[t->segment_count++] = segment;
		s = stop + 1;
	}
	return 0;
}

static const char *query_find(const struct target *t, const char *name)
{
	for (size_t i = 0; i < t->query_count; i++)
		if (streq(t->query[i].name, name))
			return t->query[i].value;
	return NULL;
}

static int parse_query(struct arena *a, const char *text, struct target *t, struct error *err)
{
	// Names are compared with all before them.
	enum { QUERY_MAX = 64 };
	if (count_of(text, strlen(text), '&') >= QUERY_MAX)
		return error_set(err, ERROR_INVALID, "the URL has over %d parameters", QUERY_MAX);
	t->query = arena_array(a, struct pair, QUERY_MAX);
	while (*text) {
		size_t size = strcspn(text, "&");
		const char *equals = memchr(text, '=', size);
		size_t name_size = equals ? (size_t)(equals - text) : size;
		const char *name = decode(a, text, name_size, true, err);
		const char *value = "";
		if (name && equals)
			value = decode(a, equals + 1, size - name_size - 1, true, err);
		if (!name || !value)
			return -1;
		if (query_find(t, name))
			return error_set(err, ERROR_INVALID, "the URL has \"%.100s\" twice", name);
		if (size)
			t->query[t->query_count++] = (struct pair){name, value};
		text += size + (text[size] == '&');
	}
	return 0;
}

int target_parse(struct arena *a, const char *text, struct target *t, struct error *err)
{
	*t = (struct target){0};
	if (strnlen(text, TARGET_MAX + 1) > TARGET_MAX)
		return error_set(err, ERROR_LIMIT, "the URL is over %d bytes", TARGET_MAX);
	size_t path_size = strcspn(text, "?");
	if (parse_path(a, text, path_size, t, err) < 0)
		return -1;
	return text[path_size] ? parse_query(a, text + path_size + 1, t, err) : 0;
}

static const char *rest_of(struct arena *a, const struct target *t, size_t from)
{
	size_t size = 0;
	for (size_t i = from; i < t->segment_count; i++)
		size += strlen(t->segments[i]) + 1;
	char *text = arena_alloc(a, size + 1), *at = text;
	for (size_t i = from; i < t->segment_count; i++) {
		if (i > from)
			*at++ = '/';
		at = stpcpy(at, t->segments[i]);
	}
	return text;
}

static void parameter_add(
	struct arena *a, struct parameters *p, const char *name, size_t size, const char *value)
{
	if (p->count == PARAMETERS_MAX)
		abort(); // a pattern of ours that has too many
	p->items[p->count++] = (struct pair){arena_strndup(a, name, size), value};
}

bool route_match(struct arena *a, const char *pattern, const struct target *t, struct parameters *p)
{
	p->count = 0;
	size_t at = 0;
	while (*pattern == '/' && pattern[1]) {
		pattern++;
		size_t size = strcspn(pattern, "/");
		if (at == t->segment_count)
			return false;
		const char *segment = t->segments[at++];
		if (pattern[0] != '{') {
			if (strlen(segment) != size || memcmp(pattern, segment, size) != 0)
				return false;
		} else if (pattern[size - 2] == '*') {
			parameter_add(a, p, pattern + 1, size - 3, rest_of(a, t, at - 1));
			return true;
		} else if (strchr(segment, '/')) {
			return false;
		} else {
			parameter_add(a, p, pattern + 1, size - 2, segment);
		}
		pattern += size;
	}
	return at == t->segment_count;
}
