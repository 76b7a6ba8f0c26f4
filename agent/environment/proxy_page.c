// SPDX-License-Identifier: Apache-2.0
//
// Pages with links, rewritten so that they lead through us. What is read stays on disk (mapped),
// and so does what is written: a file without a name beside the cache.
#include "agent/environment/proxy_internal.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/registry/url.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static const uint64_t page_max = 1ull << 30;
enum { CHUNK = 1024 * 1024 };

struct page {
	struct proxy *proxy;
	enum package_document kind;
	unsigned port;
	const char *text;
	size_t size, copied; // of the text, up to here
	char *base;
	int fd; // -1: nothing has changed so far
	uint64_t written;
	struct buffer pending;
	struct error error;
	bool failed;
};

static void fail(struct page *p)
{
	p->failed = true;
}

static void flush(struct page *p)
{
	if (p->failed || !p->pending.size)
		return;
	if (write_all(p->fd, p->pending.data, p->pending.size, "a page", &p->error) < 0)
		fail(p);
	p->written += p->pending.size;
	buffer_clear(&p->pending);
}

static void put(struct page *p, const char *data, size_t size)
{
	while (size && !p->failed) {
		size_t n = size < CHUNK ? size : CHUNK;
		buffer_append(&p->pending, data, n);
		data += n;
		size -= n;
		if (p->pending.size >= CHUNK)
			flush(p);
	}
}

static bool open_output(struct page *p)
{
	if (p->fd < 0)
		p->fd = openat(p->proxy->folder_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (p->fd < 0 && errno == EOPNOTSUPP)
		p->fd = memfd_create("page", MFD_CLOEXEC);
	if (p->fd < 0) {
		error_set_errno(&p->error, errno, "make a file beside the cache of packages");
		fail(p);
	}
	return p->fd >= 0;
}

static void replace(struct page *p, const struct package_link *l, const char *url)
{
	cleanup_buffer struct buffer inside = {0}, written = {0};
	if (l->offset < p->copied || !package_url_inside(url, p->port, &inside) || !open_output(p))
		return;
	package_link_write(&written, p->kind, inside.data);
	put(p, p->text + p->copied, l->offset - p->copied);
	put(p, written.data, written.size);
	p->copied = l->offset + l->size;
}

// A base without a '/' at its end is a folder all the same, for conda.
static char *below(const struct page *p, const struct package_link *l, struct error *err)
{
	cleanup_free char *resolved = url_resolve(p->proxy->curl, p->base, l->url, err);
	if (!resolved || l->kind != PACKAGE_LINK_BASE || p->kind != PACKAGE_JSON ||
		ends_with(resolved, "/"))
		return steal(resolved);
	return xasprintf("%s/", resolved);
}

static void on_link(void *data, const struct package_link *l)
{
	struct page *p = data;
	struct error ignored;
	cleanup_free char *url = p->failed ? NULL : below(p, l, &ignored);
	if (!url)
		return;
	if (*l->sha256)
		proxy_hashes_add(p->proxy->hashes, url, l->sha256);
	if (l->kind == PACKAGE_LINK_NAME)
		return;
	proxy_allow(p->proxy, url);
	replace(p, l, url);
	if (l->kind == PACKAGE_LINK_BASE) {
		free(p->base);
		p->base = steal(url);
	}
}

static int rewrite(struct page *p, int *fd, uint64_t *size, struct error *err)
{
	// What is no such document is the client's to find fault with.
	package_links_find(p->kind, p->text, p->size, on_link, p);
	if (p->fd >= 0) {
		put(p, p->text + p->copied, p->size - p->copied);
		flush(p);
	}
	if (p->failed) {
		*err = p->error;
		return -1;
	}
	if (p->fd < 0)
		return 0;
	*fd = steal_fd(&p->fd);
	*size = p->written;
	return 1;
}

int proxy_page_rewrite(struct proxy *proxy, const struct download_result *r, const char *url,
	enum package_document kind, unsigned port, int *fd, uint64_t *size, struct error *err)
{
	if (r->size == 0)
		return 0;
	if (r->size > page_max)
		return error_set(err, ERROR_LIMIT, "an index of more than 1 GiB");
	void *text = mmap(NULL, r->size, PROT_READ, MAP_PRIVATE, r->fd, 0);
	if (text == MAP_FAILED)
		return error_set_errno(err, errno, "map a page");
	struct page p = {.proxy = proxy,
		.kind = kind,
		.port = port,
		.text = text,
		.size = r->size,
		.fd = -1};
	cleanup_buffer struct buffer base = {0};
	package_url_plain(*r->final_url ? r->final_url : url, &base);
	p.base = buffer_steal(&base);
	proxy_allow(proxy, p.base);
	int status = rewrite(&p, fd, size, err);
	munmap(text, r->size);
	close_fdp(&p.fd);
	buffer_release(&p.pending);
	free(p.base);
	return status;
}
