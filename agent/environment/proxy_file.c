// SPDX-License-Identifier: Apache-2.0
//
// One file for a client. Files whose name or hash says what they are come from the cache without a
// question; pages are asked for once per build. What one client waits for, all wait for. A failure
// is remembered, so that tools that try again by themselves hear the same at once.
#include "agent/environment/proxy_internal.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

enum {
	FILES_MAX = 32768, // that are remembered in one build
	PAGES_MAX = 256,   // that are kept rewritten; others are rewritten anew
	PAGES_MB_MAX = 4096,
	AWAKE_MS = 3000,
	FAILURE_MS = 60 * 1000, // so long a failure that may pass is believed
};

struct proxy_file {
	struct proxy_file *next;
	char *key;
	bool busy, asked;
	unsigned waiters;
	enum data_failure failure; // of the last try, at
	int64_t failed_ms;
	int status;
	char text[sizeof(((struct error *)0)->text)];
	int page_fd; // rewritten, for this port; -1: none
	unsigned page_port;
	uint64_t page_size;
	char etag[80], content_type[128];
};

struct wait {
	struct proxy *proxy;
	const struct proxy_want *want;
	struct proxy_file *file;
	int64_t told_ms;
};

static bool has_end(const char *url, const char *const *ends)
{
	size_t n = strcspn(url, "?#");
	for (; *ends; ends++) {
		size_t k = strlen(*ends);
		if (n >= k && strncasecmp(url + n - k, *ends, k) == 0)
			return true;
	}
	return false;
}

// Names that stand for one content for ever.
static bool is_lasting(const char *url)
{
	static const char *const ends[] = {".whl", ".conda", ".tar.bz2", ".whl.metadata",
		".tar.gz.metadata", ".zip.metadata", NULL};
	return has_end(url, ends);
}

static bool is_archive(const char *url)
{
	static const char *const ends[] = {".tar.gz", ".tgz", ".zip", ".tar.xz", ".egg", NULL};
	return is_lasting(url) || has_end(url, ends);
}

// 1, 0: nothing to rewrite.
static int document_kind(const char *url, const char *content_type, enum package_document *kind)
{
	static const char *const repodata[] = {"/repodata.json", "/current_repodata.json", NULL};
	if (is_archive(url))
		return 0;
	*kind = PACKAGE_JSON;
	if (strncasecmp(content_type, "application/vnd.pypi.simple.v1+json", 35) == 0 ||
		has_end(url, repodata))
		return 1;
	*kind = PACKAGE_HTML;
	return strncasecmp(content_type, "text/html", 9) == 0 ||
	       strncasecmp(content_type, "application/vnd.pypi.simple.v1+html", 35) == 0 ||
	       strncasecmp(content_type, "application/xhtml", 17) == 0;
}

static int status_of(enum data_failure f)
{
	switch (f) {
	case DATA_NOT_FOUND:
		return 404;
	case DATA_AUTHENTICATION:
	case DATA_FORBIDDEN:
	case DATA_POLICY:
		return 403;
	case DATA_TIMEOUT:
	case DATA_STALLED:
		return 504;
	case DATA_NO_SPACE:
		return 507;
	default:
		return 502;
	}
}

// Is the client there? It may have given up; then nobody waits for what is fetched. And a client
// whose own limit is shorter than a large file takes sees that we are: RFC 9110, 15.2, a client
// must be able to pass over any number of interim answers.
static bool keep_awake(struct wait *w)
{
	static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
	char c;
	ssize_t n = recv(w->want->client_fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		return false;
	int64_t now = now_ms();
	if (w->want->keep_awake && now - w->told_ms >= AWAKE_MS) {
		w->told_ms = now;
		if (send(w->want->client_fd, interim, sizeof(interim) - 1,
			    MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
			errno != EAGAIN)
			return false;
	}
	return true;
}

static int on_progress(void *data, uint64_t done, uint64_t total)
{
	struct wait *w = data;
	(void)done, (void)total;
	if (keep_awake(w))
		return 0;
	pthread_mutex_lock(&w->proxy->mutex);
	bool alone = w->file->waiters == 0;
	pthread_mutex_unlock(&w->proxy->mutex);
	return alone;
}

static const struct proxy_host *host_of(const struct proxy *p, const char *url)
{
	char origin[PACKAGE_ORIGIN_MAX];
	struct error ignored;
	if (package_url_origin(url, origin, &ignored) < 0)
		return NULL;
	const char *host = strstr(origin, "://") + 3;
	for (size_t i = 0; i < p->settings.host_count; i++) {
		const char *name = p->settings.hosts[i].name;
		size_t n = strlen(name);
		if (strncasecmp(name, host, n) == 0 && (!host[n] || host[n] == ':'))
			return &p->settings.hosts[i];
	}
	return NULL;
}

// A token is part of the address, and addresses are part of errors.
static void hide_token(const struct package_credential *c, struct error *err)
{
	char *at = c && c->token ? strstr(err->text, c->token) : NULL;
	if (!at)
		return;
	size_t n = strlen(c->token);
	memmove(at, at + n, strlen(at + n) + 1);
}

static int fetch(struct wait *w, const struct package_credential *c, struct download_result *r,
	enum data_failure *failure, struct error *err)
{
	struct proxy *p = w->proxy;
	const char *url = w->want->url;
	cleanup_buffer struct buffer authorization = {0};
	cleanup_free char *asked = package_credential_url(c, url);
	const struct proxy_host *host = host_of(p, url);
	const char *headers[3] = {0};
	size_t n = 0;
	char sha256[65];
	if (w->want->json)
		headers[n++] = "Accept: application/vnd.pypi.simple.v1+json, "
			       "application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";
	if (c && c->user) {
		package_credential_header(c, &authorization);
		headers[n++] = authorization.data;
	}
	bool known = is_archive(url) && proxy_hashes_find(p->hashes, url, sha256);
	known = known || (has_end(url, (const char *const[]){".metadata", NULL}) &&
				 proxy_hashes_find(p->hashes, url, sha256));
	const struct download_options options = {
		.url = asked,
		.headers = {headers, n},
		.sha256 = known ? sha256 : NULL,
		.revalidate = !known && !is_lasting(url) && !w->file->asked,
		.stall_ms = p->settings.stall_ms,
		.tries = (unsigned)p->settings.tries,
		.local_hosts = p->settings.local_hosts,
		.ca = host ? host->ca : NULL,
		.proxy = host ? host->proxy : NULL,
		.progress = on_progress,
		.data = w,
	};
	return download_get(p->cache, &options, r, failure, err);
}

static void copy_failure(struct proxy_found *f, int status, const char *text)
{
	f->status = status;
	snprintf(f->text, sizeof(f->text), "%s", text);
}

static void note_failure(struct wait *w, const struct proxy_found *f, enum data_failure failure)
{
	w->file->failure = failure;
	w->file->failed_ms = now_ms();
	w->file->status = f->status;
	memcpy(w->file->text, f->text, sizeof(f->text));
}

// By name where nobody has said it: an answer from the cache may not know.
static void set_type(struct proxy_found *f, const char *url)
{
	const char *type = f->result.content_type;
	for (const char *c = type; *c; c++)
		if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
			type = "";
	if (!*type)
		type = has_end(url, (const char *const[]){".json", NULL})
			       ? "application/json"
			       : "application/octet-stream";
	snprintf(f->content_type, sizeof(f->content_type), "%s", type);
}

static void keep_page(struct wait *w, const struct proxy_found *f)
{
	struct proxy_file *file = w->file;
	bool had = file->page_fd >= 0;
	close_fdp(&file->page_fd);
	file->page_fd = -1;
	if (had) {
		atomic_fetch_sub(&w->proxy->pages, 1);
		atomic_fetch_sub(&w->proxy->page_bytes, file->page_size);
	}
	// They are no part of the cache, which has a limit of its own.
	if (atomic_load(&w->proxy->pages) >= PAGES_MAX ||
		atomic_load(&w->proxy->page_bytes) + f->size > (uint64_t)PAGES_MB_MAX << 20)
		return;
	file->page_fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
	if (file->page_fd < 0)
		return;
	atomic_fetch_add(&w->proxy->pages, 1);
	atomic_fetch_add(&w->proxy->page_bytes, f->size);
	file->page_port = w->want->port;
	file->page_size = f->size;
	memcpy(file->etag, f->etag, sizeof(file->etag));
	memcpy(file->content_type, f->content_type, sizeof(file->content_type));
}

static int finish(struct wait *w, struct proxy_found *f, struct error *err)
{
	enum package_document kind;
	f->status = 200;
	f->fd = f->result.fd;
	f->size = f->result.size;
	snprintf(f->etag, sizeof(f->etag), "\"%s\"", f->result.sha256);
	set_type(f, w->want->url);
	if (!document_kind(w->want->url, f->content_type, &kind))
		return 0;
	int fd = -1;
	uint64_t size = 0;
	int changed = proxy_page_rewrite(
		w->proxy, &f->result, w->want->url, kind, w->want->port, &fd, &size, err);
	if (changed <= 0)
		return changed;
	snprintf(f->etag, sizeof(f->etag), "\"%s-%u\"", f->result.sha256, w->want->port);
	download_result_release(&f->result);
	f->result.fd = -1;
	f->fd = fd;
	f->size = size;
	keep_page(w, f);
	return 0;
}

// By the one who has made it busy.
static void get(struct wait *w, struct proxy_found *f)
{
	struct proxy *p = w->proxy;
	const struct package_credential *c =
		package_credential_for(&p->settings.credentials, w->want->url);
	enum data_failure failure = DATA_OK;
	struct error err = {0};
	int status = fetch(w, c, &f->result, &failure, &err);
	proxy_count(p, f->result.fetched, 0, false, status == 0 && f->result.reused);
	if (status == 0) {
		w->file->asked = true;
		if (*f->result.final_url)
			proxy_allow(p, f->result.final_url);
		status = finish(w, f, &err);
		failure = DATA_FAILED;
	} else {
		f->result.fd = -1;
	}
	w->file->failure = DATA_OK;
	if (status == 0)
		return;
	hide_token(c, &err);
	copy_failure(f, status_of(failure), err.text);
	if (!keep_awake(w)) // its client has gone: that says nothing of the server
		return;
	note_failure(w, f, failure);
	proxy_note_trouble(p, failure, f->result.status, w->want->url, &err);
}

static size_t bucket_of(const char *key, size_t count)
{
	uint64_t h = 14695981039346656037ull;
	for (; *key; key++)
		h = (h ^ (unsigned char)*key) * 1099511628211ull;
	return (size_t)(h % count);
}

// With the mutex held. NULL: too many.
static struct proxy_file *find_file(struct proxy *p, const struct proxy_want *w)
{
	cleanup_free char *key = xasprintf("%d %s", w->json, w->url);
	struct proxy_file **link = &p->files[bucket_of(key, array_size(p->files))];
	for (struct proxy_file *f = *link; f; f = f->next)
		if (streq(f->key, key))
			return f;
	if (p->file_count == FILES_MAX)
		return NULL;
	struct proxy_file *f = xcalloc(1, sizeof(*f));
	f->key = steal(key);
	f->page_fd = -1;
	f->next = *link;
	*link = f;
	p->file_count++;
	return f;
}

static bool wait_until_free(struct wait *w)
{
	struct proxy *p = w->proxy;
	bool there = true;
	while (w->file->busy && there) {
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec++;
		w->file->waiters++;
		pthread_cond_timedwait(&p->changed, &p->mutex, &until);
		w->file->waiters--;
		there = keep_awake(w);
	}
	return there;
}

// From what is remembered.
static bool answer_at_once(struct wait *w, struct proxy_found *f)
{
	struct proxy_file *file = w->file;
	bool believed =
		!data_failure_is_passing(file->failure) || now_ms() - file->failed_ms < FAILURE_MS;
	if (file->failure != DATA_OK && believed) {
		copy_failure(f, file->status, file->text);
		return true;
	}
	if (file->page_fd < 0 || file->page_port != w->want->port)
		return false;
	f->fd = fcntl(file->page_fd, F_DUPFD_CLOEXEC, 0);
	f->size = file->page_size;
	f->status = 200;
	memcpy(f->etag, file->etag, sizeof(f->etag));
	memcpy(f->content_type, file->content_type, sizeof(f->content_type));
	return f->fd >= 0;
}

void proxy_file_get(struct proxy *p, const struct proxy_want *want, struct proxy_found *f)
{
	*f = (struct proxy_found){.fd = -1, .result = {.fd = -1}};
	struct wait w = {.proxy = p, .want = want, .told_ms = now_ms()};
	pthread_mutex_lock(&p->mutex);
	w.file = find_file(p, want);
	if (!w.file)
		copy_failure(f, 503, "more different files than one build may ask for");
	else if (!wait_until_free(&w))
		copy_failure(f, 503, "the client has gone");
	else if (!answer_at_once(&w, f)) {
		w.file->busy = true;
		pthread_mutex_unlock(&p->mutex);
		get(&w, f);
		pthread_mutex_lock(&p->mutex);
		w.file->busy = false;
		pthread_cond_broadcast(&p->changed);
	}
	pthread_mutex_unlock(&p->mutex);
}

void proxy_found_release(struct proxy_found *f)
{
	if (f->fd >= 0 && f->fd != f->result.fd)
		close_fdp(&f->fd);
	f->fd = -1;
	if (f->result.fd >= 0)
		download_result_release(&f->result);
	f->result.fd = -1;
}
