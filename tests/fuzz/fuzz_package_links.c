// SPDX-License-Identifier: Apache-2.0
// Index pages as servers send them: what is told lies within the document, in order, and a page
// whose links were replaced has the same number of links again, which are the replacements. The
// first byte chooses the kind. The rest is also read as the head of a request.
#include "agent/environment/proxy_links.h"
#include "agent/environment/proxy_request.h"
#include "base/text.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char replacement[] = "http://127.0.0.1:1041/https/a&b/\"c'";

struct page {
	enum package_document kind;
	const char *text;
	size_t size, copied, count;
	struct buffer out;
	bool again;
};

static void expect(bool condition)
{
	if (!condition)
		abort();
}

static void on_link(void *data, const struct package_link *l)
{
	struct page *p = data;
	expect(strlen(l->url) < PACKAGE_LINK_MAX + sizeof(".metadata"));
	expect(!*l->sha256 || strlen(l->sha256) == 64);
	if (l->kind == PACKAGE_LINK_NAME)
		return;
	p->count++;
	expect(l->offset >= p->copied && l->size <= p->size && l->offset <= p->size - l->size);
	expect(!p->again || streq(l->url, replacement));
	buffer_append(&p->out, p->text + p->copied, l->offset - p->copied);
	package_link_write(&p->out, p->kind, replacement);
	p->copied = l->offset + l->size;
}

static void try_page(enum package_document kind, const char *text, size_t size)
{
	struct page p = {.kind = kind, .text = text, .size = size};
	int status = package_links_find(kind, text, size, on_link, &p);
	buffer_append(&p.out, text + p.copied, size - p.copied);
	struct page again = {.kind = kind, .text = p.out.data, .size = p.out.size, .again = true};
	expect(package_links_find(kind, again.text, again.size, on_link, &again) == status);
	expect(again.count == p.count);
	buffer_release(&p.out);
	buffer_release(&again.out);
}

static void try_request(const char *text, size_t size)
{
	cleanup_free char *head = xstrndup(text, size);
	struct proxy_request r;
	const char *why;
	int status = proxy_request_parse(head, size, &r, &why);
	expect(status ? *why != '\0' : r.target[0] == '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	// A copy of exactly that size, so that a byte too far is found.
	cleanup_free char *text = xmemdup(data + 1, size - 1);
	try_page(data[0] & 1 ? PACKAGE_JSON : PACKAGE_HTML, text, size - 1);
	try_request(text, size - 1);
	return 0;
}
