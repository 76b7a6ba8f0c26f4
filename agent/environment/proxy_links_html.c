// SPDX-License-Identifier: Apache-2.0
//
// As much of HTML as PEP 503 needs: <a href> with the data- attributes of PEP 658 and 714, <base
// href>, comments. What is not understood is passed over: a link that is not seen is not rewritten,
// and then leads nowhere.
#include "agent/environment/proxy_links_internal.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

struct reader {
	const char *text;
	size_t size, at;
	package_link_fn *fn;
	void *data;
	struct buffer url;
};

struct tag {
	struct package_span name, href, metadata;
	bool has_href;
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static bool is_word(const struct reader *r, struct package_span s, const char *word)
{
	return s.size == strlen(word) && strncasecmp(r->text + s.at, word, s.size) == 0;
}

static void skip_space(struct reader *r)
{
	while (r->at < r->size && is_space(r->text[r->at]))
		r->at++;
}

// Up to one of the characters, or white space, or the end.
static struct package_span take_until(struct reader *r, const char *ends)
{
	size_t start = r->at;
	while (r->at < r->size && !is_space(r->text[r->at]) &&
		!(r->text[r->at] && strchr(ends, r->text[r->at])))
		r->at++;
	return (struct package_span){start, r->at - start};
}

static struct package_span take_value(struct reader *r)
{
	skip_space(r);
	if (r->at >= r->size || (r->text[r->at] != '"' && r->text[r->at] != '\''))
		return take_until(r, ">");
	char quote = r->text[r->at++];
	const char *end = memchr(r->text + r->at, quote, r->size - r->at);
	struct package_span s = {r->at, end ? (size_t)(end - r->text) - r->at : r->size - r->at};
	r->at = end ? (size_t)(end - r->text) + 1 : r->size;
	return s;
}

// From behind the name to behind the '>'.
static void take_attributes(struct reader *r, struct tag *t)
{
	while (r->at < r->size) {
		skip_space(r);
		if (r->at >= r->size)
			return;
		if (r->text[r->at] == '>') {
			r->at++;
			return;
		}
		if (r->text[r->at] == '/' || r->text[r->at] == '=') {
			r->at++;
			continue;
		}
		struct package_span name = take_until(r, "=>/"), value = {0};
		skip_space(r);
		if (r->at < r->size && r->text[r->at] == '=') {
			r->at++;
			value = take_value(r);
			if (is_word(r, name, "href") && !t->has_href) {
				t->href = value;
				t->has_href = true;
			} else if (is_word(r, name, "data-core-metadata") ||
				   is_word(r, name, "data-dist-info-metadata")) {
				t->metadata = value;
			}
		}
	}
}

// A character reference at `p`, of at most `left` bytes: how long it is, 0 if it is none that we
// know.
static size_t decode_reference(const char *p, size_t left, char *c)
{
	static const struct {
		const char *name;
		char c;
	} known[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'},
		{"&apos;", '\''}, {"&#39;", '\''}, {"&#x27;", '\''}, {"&#34;", '"'}, {"&#38;", '&'},
		{"&#x26;", '&'}, {"&#x2F;", '/'}, {"&#47;", '/'}, {"&#43;", '+'}, {"&#x2B;", '+'},
		{"&#61;", '='}, {"&#x3D;", '='}};
	for (size_t i = 0; i < array_size(known); i++) {
		size_t n = strlen(known[i].name);
		if (n <= left && strncasecmp(p, known[i].name, n) == 0) {
			*c = known[i].c;
			return n;
		}
	}
	return 0;
}

static bool decode_url(struct reader *r, struct package_span s)
{
	buffer_clear(&r->url);
	while (s.size && is_space(r->text[s.at]))
		s.at++, s.size--;
	while (s.size && is_space(r->text[s.at + s.size - 1]))
		s.size--;
	if (s.size >= PACKAGE_LINK_MAX)
		return false;
	for (size_t i = 0; i < s.size;) {
		char c = r->text[s.at + i];
		size_t n = c == '&' ? decode_reference(r->text + s.at + i, s.size - i, &c) : 0;
		buffer_putc(&r->url, c);
		i += n ? n : 1;
	}
	buffer_append(&r->url, "", 0);
	return package_link_plain(r->url.data, r->url.size);
}

static void tell_metadata(struct reader *r, struct package_span s)
{
	static const char prefix[] = "sha256=";
	size_t n = sizeof(prefix) - 1;
	struct package_link link = {.kind = PACKAGE_LINK_NAME};
	if (s.size < n || strncasecmp(r->text + s.at, prefix, n) != 0 ||
		!package_link_hash(r->text + s.at + n, s.size - n, link.sha256))
		return;
	r->url.size = strcspn(r->url.data, "#");
	buffer_puts(&r->url, ".metadata");
	link.url = r->url.data;
	r->fn(r->data, &link);
}

static void tell(struct reader *r, const struct tag *t, enum package_link_kind kind)
{
	if (!t->has_href || !decode_url(r, t->href))
		return;
	struct package_link link = {
		.kind = kind, .offset = t->href.at, .size = t->href.size, .url = r->url.data};
	const char *fragment = strchr(r->url.data, '#');
	const char *hash = fragment ? strstr(fragment, "sha256=") : NULL;
	if (hash)
		package_link_hash(hash + 7, strlen(hash + 7), link.sha256);
	r->fn(r->data, &link);
	if (kind == PACKAGE_LINK_ADDRESS && t->metadata.size)
		tell_metadata(r, t->metadata);
}

static void skip_comment(struct reader *r)
{
	const char *end = memmem(r->text + r->at, r->size - r->at, "-->", 3);
	r->at = end ? (size_t)(end - r->text) + 3 : r->size;
}

int package_links_html(const char *text, size_t size, package_link_fn *fn, void *data)
{
	struct reader r = {.text = text, .size = size, .fn = fn, .data = data};
	while (r.at < size) {
		const char *open = memchr(text + r.at, '<', size - r.at);
		if (!open)
			break;
		r.at = (size_t)(open - text) + 1;
		if (size - r.at >= 3 && memcmp(text + r.at, "!--", 3) == 0) {
			skip_comment(&r);
			continue;
		}
		struct tag t = {.name = take_until(&r, ">/")};
		take_attributes(&r, &t);
		if (is_word(&r, t.name, "a"))
			tell(&r, &t, PACKAGE_LINK_ADDRESS);
		else if (is_word(&r, t.name, "base"))
			tell(&r, &t, PACKAGE_LINK_BASE);
	}
	buffer_release(&r.url);
	return 0;
}
