// SPDX-License-Identifier: Apache-2.0
//
// The helper that fetches: a few threads take one file after the other.
#include "agent/data/download_internal.h"
#include "agent/data/http.h"
#include "agent/data/http_protocol.h"
#include "base/file.h"
#include "base/message.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/time.h"
#include "oci/registry/confine.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NOBODY = 65534, PROGRESS_MS = 100 };

struct order {
	const char *url, *sha256;
	uint64_t size, source, max_bytes, limit_ms;
	int64_t revalidate;
	atomic_bool given_up; // another file of its source is missing
};

struct helper {
	struct arena arena;
	struct cache_limits limits;
	struct json_strings local_hosts;
	struct order *orders;
	size_t count;
	struct download_cache *cache;
	atomic_size_t next;
	pthread_mutex_t sending;
};

// Of one file under way.
struct task {
	struct helper *helper;
	uint32_t index;
	int64_t told_ms;
};

static json_decode_fn decode_order;

static int decode_order(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
#define AT(member) offsetof(struct order, member)
	static const struct json_field fields[] = {
		{"url", json_decode_string, AT(url), JSON_REQUIRED},
		{"sha256", json_decode_string, AT(sha256), 0},
		{"size", json_decode_uint64, AT(size), 0},
		{"source", json_decode_uint64, AT(source), JSON_REQUIRED},
		{"max_bytes", json_decode_uint64, AT(max_bytes), 0},
		{"limit_ms", json_decode_uint64, AT(limit_ms), 0},
		{"revalidate", json_decode_int64, AT(revalidate), 0},
		{0},
	};
#undef AT
	return json_decode_object(d, value, fields, true, target, err);
}

static json_decode_fn decode_orders;

static int decode_orders(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct helper *h = target;
	void *items;
	if (json_decode_array(d, value, decode_order, sizeof(struct order), SIZE_MAX, &items,
		    &h->count, err) < 0)
		return -1;
	h->orders = items;
	return 0;
}

static int read_orders(struct helper *h, int fd, struct error *err)
{
#define AT(member) offsetof(struct helper, member)
	static const struct json_field fields[] = {
		{"high_bytes", json_decode_uint64, AT(limits.high_bytes), 0},
		{"low_bytes", json_decode_uint64, AT(limits.low_bytes), 0},
		{"keep_free_bytes", json_decode_uint64, AT(limits.keep_free_bytes), 0},
		{"local_hosts", json_decode_strings, AT(local_hosts), 0},
		{"files", decode_orders, 0, JSON_REQUIRED},
		{0},
	};
#undef AT
	const struct json_limits limits = {
		.bytes = DATA_HTTP_BYTES_MAX, .depth = 8, .nodes = 4 * 1000 * 1000};
	struct buffer text = {0}; // the strings point into it: for as long as we live
	if (file_read_fd(fd, "orders", DATA_HTTP_BYTES_MAX, &text, err) < 0)
		return -1;
	const struct json *tree = json_parse(
		&h->arena, text.data ? text.data : "", text.size, "orders", &limits, err);
	buffer_release(&text);
	struct json_decoder d = {.arena = &h->arena, .document = "orders"};
	return tree ? json_decode_object(&d, tree, fields, true, h, err) : -1;
}

// Whoever started us is gone when it cannot be told: nobody waits for more.
static void reply(struct helper *h, const struct data_http_reply *r)
{
	struct error ignored;
	pthread_mutex_lock(&h->sending);
	int status = message_send(DATA_HTTP_SOCKET, r, sizeof(*r), NULL, 0, &ignored);
	pthread_mutex_unlock(&h->sending);
	if (status < 0)
		_exit(1);
}

// Without one of its files a source is not needed; whether all of them are over then, our starter
// says. It has heard of the first.
static void give_up(struct helper *h, uint64_t source)
{
	for (size_t i = 0; i < h->count; i++)
		if (h->orders[i].source == source)
			atomic_store(&h->orders[i].given_up, true);
}

// What there is no room for is left out: the next one says more.
static int on_progress(void *data, uint64_t done, uint64_t total)
{
	struct task *t = data;
	struct pollfd room = {.fd = DATA_HTTP_SOCKET, .events = POLLOUT};
	int64_t now = now_ms();
	if (atomic_load(&t->helper->orders[t->index].given_up))
		return -1;
	if (now - t->told_ms < PROGRESS_MS || poll(&room, 1, 0) != 1)
		return 0;
	t->told_ms = now;
	if (room.revents & (POLLHUP | POLLERR))
		_exit(1);
	struct data_http_reply r = {
		.verb = DATA_HTTP_PROGRESS, .index = t->index, .done = done, .total = total};
	reply(t->helper, &r);
	return 0;
}

static void on_notice(void *data, const char *text)
{
	struct task *t = data;
	struct data_http_reply r = {.verb = DATA_HTTP_NOTICE, .index = t->index};
	snprintf(r.error.text, sizeof(r.error.text), "%s", text);
	reply(t->helper, &r);
}

static void fetch(struct helper *h, size_t index)
{
	const struct order *o = &h->orders[index];
	struct task task = {.helper = h, .index = (uint32_t)index};
	const struct download_options options = {
		.url = o->url,
		.sha256 = o->sha256,
		.size = o->size,
		.max_bytes = o->max_bytes,
		.limit_ms = o->limit_ms,
		.revalidate = (int)o->revalidate,
		.local_hosts = h->local_hosts,
		.progress = on_progress,
		.notice = on_notice,
		.data = &task,
	};
	cleanup_download_result struct download_result result;
	struct data_http_reply r = {.verb = DATA_HTTP_DONE, .index = (uint32_t)index};
	enum data_failure failure;
	if (atomic_load(&h->orders[index].given_up)) {
		r.failure = DATA_NOT_FOUND;
		reply(h, &r);
		return;
	}
	if (download_get(h->cache, &options, &result, &failure, &r.error) == 0) {
		memcpy(r.sha256, result.sha256, sizeof(r.sha256));
		r.done = result.size;
		r.reused = result.reused;
	}
	r.total = result.size;
	r.fetched = result.fetched;
	r.failure = failure;
	// The content stays leased until it was heard of, and taken.
	reply(h, &r);
	if (failure == DATA_OK)
		steal_fd(&result.fd);
	if (failure == DATA_NOT_FOUND)
		give_up(h, o->source);
}

static void *work(void *data)
{
	struct helper *h = data;
	for (size_t i; (i = atomic_fetch_add(&h->next, 1)) < h->count;)
		fetch(h, i);
	return NULL;
}

static int receive_orders(int fds[2], struct error *err)
{
	char word[8];
	ssize_t n = message_receive(DATA_HTTP_SOCKET, word, sizeof(word), fds, 2, false, err);
	if (n < 0)
		return -1;
	if (n != 6 || fds[0] < 0 || fds[1] < 0)
		return error_set(err, ERROR_INVALID,
			"this is a helper process of stoker; it is not started by hand");
	return 0;
}

// What is written as nobody must be nobody's. Only folders: what is in them was made by helpers.
static int hand_over(const int *folders, size_t count, struct error *err)
{
	for (size_t i = 0; geteuid() == 0 && i < count; i++)
		if (fchown(folders[i], NOBODY, NOBODY) < 0 && errno != EINVAL)
			return error_set_errno(err, errno, "hand the cache to the helper");
	return 0;
}

// Libraries are loaded and folders opened before the confinement.
static int begin(struct helper *h, struct error *err)
{
	int fds[2] = {-1, -1};
	if (receive_orders(fds, err) < 0)
		return -1;
	cleanup_fd int orders = fds[0], datasets = fds[1];
	if (read_orders(h, orders, err) < 0)
		return -1;
	h->cache = download_cache_open_unswept(datasets, ".", &h->limits, err);
	if (!h->cache)
		return -1;
	cleanup_fd int above = openat(datasets, "objects", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const int folders[] = {h->cache->urls_fd, h->cache->parts_fd, h->cache->locks_fd,
		h->cache->objects_fd, above};
	if (above < 0)
		return error_set_errno(err, errno, "open the cache's objects");
	if (hand_over(folders, array_size(folders), err) < 0)
		return -1;
	struct download_http *http = download_http_take(h->cache, err);
	if (!http)
		return -1;
	download_http_give(h->cache, http, false);
	sha256_prepare();
	if (fetcher_confine_writing(folders, array_size(folders), err) < 0)
		return -1;
	download_sweep(h->cache);
	return 0;
}

static int run(struct helper *h, struct error *err)
{
	pthread_t threads[DATA_HTTP_CONNECTIONS];
	size_t n = h->count < DATA_HTTP_CONNECTIONS ? h->count : DATA_HTTP_CONNECTIONS;
	for (size_t i = 0; i < n; i++) {
		int sys = pthread_create(&threads[i], NULL, work, h);
		if (sys)
			return error_set_errno(err, sys, "start a thread");
	}
	// Until our starter closes its end, or is gone: what is leased here is leased until then.
	struct pollfd p = {.fd = DATA_HTTP_SOCKET, .events = POLLIN};
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	return 0;
}

int data_http_main(void)
{
	static struct helper h = {.sending = PTHREAD_MUTEX_INITIALIZER};
	struct error err = {0};
	signal(SIGPIPE, SIG_IGN); // older TLS code of libcurl writes without MSG_NOSIGNAL
	int status = begin(&h, &err) < 0 || run(&h, &err) < 0 ? 1 : 0;
	if (status && h.count) {
		struct data_http_reply r = {
			.verb = DATA_HTTP_DONE, .failure = DATA_FAILED, .error = err};
		reply(&h, &r);
	} else if (status) {
		fprintf(stderr, "stoker data: %s\n", err.text);
	}
	// Not exit(): threads are at work.
	fflush(stderr);
	_exit(status);
}
