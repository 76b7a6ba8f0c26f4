// SPDX-License-Identifier: Apache-2.0
//
// Three places of JSON documents: files[].url with files[].hashes.sha256 (PEP 691), info.base_url
// and packages.NAME.sha256 (conda). A repodata.json has 300 MB; so it is passed over once, and no
// tree is made of it.
#include "agent/environment/proxy_links_internal.h"

#include <stdio.h>
#include <string.h>

struct level {
	bool object, has_key;
	struct package_span key; // as written
};

struct reader {
	const char *text;
	size_t size, at, depth;
	package_link_fn *fn;
	void *data;
	struct level levels[PACKAGE_LINK_DEPTH_MAX];
	struct package_span url; // of the file at hand
	char sha256[65], metadata[65];
	struct buffer decoded;
};

// Behind the opening quote: the string, and behind the closing one.
static int take_string(struct reader *r, struct package_span *s)
{
	s->at = r->at;
	for (size_t from = r->at;;) {
		const char *quote = memchr(r->text + from, '"', r->size - from);
		if (!quote)
			return -1;
		size_t end = (size_t)(quote - r->text), slashes = 0;
		while (end - slashes > s->at && r->text[end - slashes - 1] == '\\')
			slashes++;
		if (slashes % 2 == 0) {
			s->size = end - s->at;
			r->at = end + 1;
			return 0;
		}
		from = end + 1;
	}
}

static int hex_value(const char *p)
{
	int value = 0;
	for (int i = 0; i < 4; i++) {
		char c = p[i];
		int digit = c >= '0' && c <= '9'   ? c - '0'
			    : c >= 'a' && c <= 'f' ? c - 'a' + 10
			    : c >= 'A' && c <= 'F' ? c - 'A' + 10
						   : -1;
		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

// Addresses are ASCII: other escapes make it none.
static bool decode(struct reader *r, struct package_span s)
{
	const char *p = r->text + s.at, *end = p + s.size;
	buffer_clear(&r->decoded);
	if (s.size >= PACKAGE_LINK_MAX)
		return false;
	while (p < end) {
		char c = *p++;
		if (c == '\\') {
			if (p == end)
				return false;
			c = *p++;
			if (c == 'u') {
				int value = end - p >= 4 ? hex_value(p) : -1;
				if (value < 0x20 || value > 0x7e)
					return false;
				c = (char)value;
				p += 4;
			} else if (c != '/' && c != '"' && c != '\\') {
				return false;
			}
		}
		buffer_putc(&r->decoded, c);
	}
	buffer_append(&r->decoded, "", 0);
	return package_link_plain(r->decoded.data, r->decoded.size);
}

static bool key_is(const struct reader *r, size_t level, const char *word)
{
	const struct level *l = &r->levels[level];
	return l->object && l->key.size == strlen(word) &&
	       memcmp(r->text + l->key.at, word, l->key.size) == 0;
}

static void tell_name(struct reader *r, const char *sha256)
{
	struct package_link link = {.kind = PACKAGE_LINK_NAME, .url = r->decoded.data};
	memcpy(link.sha256, sha256, sizeof(link.sha256));
	r->fn(r->data, &link);
}

static void tell_file(struct reader *r)
{
	if (!r->url.size || !decode(r, r->url))
		return;
	struct package_link link = {.kind = PACKAGE_LINK_ADDRESS,
		.offset = r->url.at,
		.size = r->url.size,
		.url = r->decoded.data};
	memcpy(link.sha256, r->sha256, sizeof(link.sha256));
	r->fn(r->data, &link);
	if (*r->metadata) {
		r->decoded.size = strcspn(r->decoded.data, "#");
		buffer_puts(&r->decoded, ".metadata");
		tell_name(r, r->metadata);
	}
}

static bool in_file(const struct reader *r)
{
	return r->depth >= 3 && key_is(r, 0, "files") && !r->levels[1].object &&
	       r->levels[2].object;
}

static void on_string(struct reader *r, struct package_span s)
{
	const char *text = r->text + s.at;
	if (r->depth == 2 && key_is(r, 0, "info") && key_is(r, 1, "base_url")) {
		if (decode(r, s))
			r->fn(r->data, &(struct package_link){.kind = PACKAGE_LINK_BASE,
					       .offset = s.at,
					       .size = s.size,
					       .url = r->decoded.data});
	} else if (r->depth == 3 && in_file(r) && key_is(r, 2, "url")) {
		r->url = s;
	} else if (r->depth == 4 && in_file(r) && key_is(r, 3, "sha256") && s.size == 64) {
		if (key_is(r, 2, "hashes"))
			package_link_hash(text, s.size, r->sha256);
		else if (key_is(r, 2, "core-metadata") || key_is(r, 2, "dist-info-metadata") ||
			 key_is(r, 2, "data-dist-info-metadata"))
			package_link_hash(text, s.size, r->metadata);
	} else if (r->depth == 3 && key_is(r, 2, "sha256") && r->levels[1].object && s.size == 64 &&
		   (key_is(r, 0, "packages") || key_is(r, 0, "packages.conda"))) {
		char hex[65];
		if (package_link_hash(text, s.size, hex) && decode(r, r->levels[1].key))
			tell_name(r, hex);
	}
}

static int open_level(struct reader *r, bool object)
{
	if (r->depth == PACKAGE_LINK_DEPTH_MAX)
		return -1;
	r->levels[r->depth++] = (struct level){.object = object};
	if (r->depth == 3) {
		r->url = (struct package_span){0};
		r->sha256[0] = r->metadata[0] = '\0';
	}
	return 0;
}

static int close_level(struct reader *r, bool object)
{
	if (r->depth == 0 || r->levels[r->depth - 1].object != object)
		return -1;
	if (r->depth == 3 && in_file(r))
		tell_file(r);
	r->depth--;
	return 0;
}

static void value_over(struct reader *r)
{
	if (r->depth)
		r->levels[r->depth - 1].has_key = false;
}

static int take_one(struct reader *r)
{
	struct package_span s;
	char c = r->text[r->at++];
	struct level *top = r->depth ? &r->levels[r->depth - 1] : NULL;
	switch (c) {
	case '"':
		if (take_string(r, &s) < 0)
			return -1;
		if (top && top->object && !top->has_key) {
			top->key = s;
			top->has_key = true;
			return 0;
		}
		on_string(r, s);
		value_over(r);
		return 0;
	case '{':
	case '[':
		return open_level(r, c == '{');
	case '}':
	case ']':
		if (close_level(r, c == '}') < 0)
			return -1;
		value_over(r);
		return 0;
	case ',':
	case ':':
	case ' ':
	case '\t':
	case '\n':
	case '\r':
		return 0;
	default: // numbers and words
		while (r->at < r->size && !strchr(",:]}{[\" \t\n\r", r->text[r->at]))
			r->at++;
		value_over(r);
		return 0;
	}
}

int package_links_json(const char *text, size_t size, package_link_fn *fn, void *data)
{
	struct reader r = {.text = text, .size = size, .fn = fn, .data = data};
	int status = 0;
	while (r.at < size && status == 0)
		status = take_one(&r);
	buffer_release(&r.decoded);
	return status < 0 || r.depth ? -1 : 0;
}
