// SPDX-License-Identifier: Apache-2.0
#include "agent/data/http.h"

#include "agent/data/download.h"
#include "agent/data/http_lane.h"
#include "agent/data/http_protocol.h"
#include "base/file.h"
#include "base/message.h"
#include "base/process.h"

#include <pthread.h>
#include <string.h>

// A few threads take one file after the other.
struct fetcher {
	struct data_http *http;
	struct download_cache *cache;
	pthread_mutex_t mutex; // of what follows, of the files, and of calling back
	size_t next;
	bool over; // given up, all of it
	struct error error;
};

struct worker {
	struct fetcher *fetcher;
	struct data_lane lane;
	pthread_t thread;
	size_t index; // of the file under way
};

static struct data_http_file *file_of(const struct worker *w)
{
	return &w->fetcher->http->files[w->index];
}

// With the mutex held: the first failure is what is told.
static void give_up(struct worker *w, enum data_failure failure, const struct error *err)
{
	struct fetcher *f = w->fetcher;
	if (f->over)
		return;
	f->over = true;
	f->http->failed = w->index;
	f->http->failure = failure;
	f->error = *err;
}

// Another file of its source is missing, and nobody minds.
static void complete_source(struct data_http *h, size_t source)
{
	for (size_t i = 0; i < h->count; i++)
		if (h->files[i].source == source)
			h->files[i].complete = true;
}

static int on_progress(void *data, uint64_t done, uint64_t total)
{
	struct worker *w = data;
	struct fetcher *f = w->fetcher;
	struct data_http_file *file = file_of(w);
	struct error err;
	pthread_mutex_lock(&f->mutex);
	file->done = done;
	file->total = total;
	if (!f->over && !file->complete && f->http->progress(f->http->data, w->index)) {
		error_set(&err, ERROR_UNAVAILABLE, "canceled");
		give_up(w, DATA_FAILED, &err);
	}
	int end = f->over || file->complete;
	pthread_mutex_unlock(&f->mutex);
	return end;
}

static void on_notice(void *data, const char *text)
{
	struct worker *w = data;
	struct fetcher *f = w->fetcher;
	pthread_mutex_lock(&f->mutex);
	if (!f->over && !file_of(w)->complete)
		f->http->notice(f->http->data, w->index, text);
	pthread_mutex_unlock(&f->mutex);
}

// With the mutex held. The content stays leased.
static void take(struct worker *w, struct download_result *r)
{
	struct data_http_file *file = file_of(w);
	memcpy(file->sha256, r->sha256, sizeof(file->sha256));
	file->done = file->total = r->size;
	file->reused = r->reused;
	file->lease_fd = steal_fd(&r->fd);
	file->complete = true;
}

static void fetch(struct worker *w)
{
	struct fetcher *f = w->fetcher;
	struct data_http *h = f->http;
	struct data_http_file *file = file_of(w);
	const struct download_options options = {.url = file->file->url,
		.sha256 = file->file->sha256,
		.size = file->file->size,
		.max_bytes = file->max_bytes,
		.limit_ms = file->limit_ms,
		.revalidate = file->revalidate,
		.local_hosts = h->policy->local_hosts,
		.progress = on_progress,
		.notice = on_notice,
		.data = w,
		.exchange = data_lane_exchange,
		.exchange_data = &w->lane};
	cleanup_download_result struct download_result result;
	enum data_failure failure;
	struct error err;
	int status = download_get(f->cache, &options, &result, &failure, &err);
	pthread_mutex_lock(&f->mutex);
	file->fetched = result.fetched;
	if (status == 0)
		take(w, &result);
	else if (result.size)
		file->total = result.size;
	if (status < 0 && !f->over && !file->complete) {
		if (h->forgive(h->data, w->index, failure))
			complete_source(h, file->source);
		else
			give_up(w, failure, &err);
	}
	pthread_mutex_unlock(&f->mutex);
}

static bool next_file(struct worker *w)
{
	struct fetcher *f = w->fetcher;
	pthread_mutex_lock(&f->mutex);
	while (f->next < f->http->count && f->http->files[f->next].complete)
		f->next++;
	bool there = !f->over && f->next < f->http->count;
	if (there)
		w->index = f->next++;
	pthread_mutex_unlock(&f->mutex);
	return there;
}

static void *work(void *data)
{
	struct worker *w = data;
	while (next_file(w))
		fetch(w);
	return NULL;
}

// Nothing of the environment but what names proxies.
static int start_helper(
	const struct process_fd *lanes, size_t count, struct process *p, struct error *err)
{
	static const char *const kept[] = {
		"https_proxy", "HTTPS_PROXY", "http_proxy", "no_proxy", "NO_PROXY"};
	cleanup_arena struct arena arena = {0};
	const char *envp[array_size(kept) + 1] = {0};
	size_t n = 0;
	for (size_t i = 0; i < array_size(kept); i++)
		if (getenv(kept[i]))
			envp[n++] = arena_printf(&arena, "%s=%s", kept[i], getenv(kept[i]));
	const struct process_options options = {
		.argv = (const char *const[]){"stoker", "data", NULL},
		.envp = envp,
		.fds = lanes,
		.fd_count = count,
		.keep_stderr = true,
		.die_with_parent = true,
	};
	return process_start(&options, p, err);
}

static int open_lanes(struct worker *workers, size_t count, struct process *p, struct error *err)
{
	struct process_fd theirs[DATA_HTTP_LANES];
	size_t n = 0;
	int status = 0;
	for (; n < count && status == 0; n++) {
		int pair[2] = {-1, -1};
		status = message_pair(pair, err);
		workers[n].lane.socket = pair[0];
		theirs[n] = (struct process_fd){pair[1], DATA_HTTP_LANE_FIRST + (int)n};
	}
	if (status == 0)
		status = start_helper(theirs, n, p, err);
	for (size_t i = 0; i < n; i++)
		close_fdp(&theirs[i].parent);
	return status;
}

static int run(struct fetcher *f, struct worker *workers, size_t count, struct error *err)
{
	cleanup_process struct process process = {.pidfd = -1};
	size_t started = 0;
	int status = open_lanes(workers, count, &process, err);
	for (; status == 0 && started < count; started++) {
		workers[started].fetcher = f;
		int sys = pthread_create(&workers[started].thread, NULL, work, &workers[started]);
		if (sys && !started)
			status = error_set_errno(err, sys, "start a thread");
		if (sys)
			break;
	}
	for (size_t i = 0; i < started; i++)
		pthread_join(workers[i].thread, NULL);
	for (size_t i = 0; i < count; i++)
		close_fdp(&workers[i].lane.socket);
	return status;
}

int data_http_fetch(struct data_http *h, struct error *err)
{
	struct worker workers[DATA_HTTP_LANES] = {0};
	struct fetcher f = {.http = h, .mutex = PTHREAD_MUTEX_INITIALIZER};
	size_t count = h->count < DATA_HTTP_LANES ? h->count : DATA_HTTP_LANES;
	for (size_t i = 0; i < DATA_HTTP_LANES; i++)
		workers[i].lane.socket = -1;
	h->failure = DATA_FAILED;
	h->failed = 0;
	f.cache = download_cache_open(h->cache->fd, ".", &h->policy->cache, err);
	if (!f.cache)
		return -1;
	int status = run(&f, workers, count, err);
	download_cache_free(f.cache);
	if (status == 0 && f.over) {
		*err = f.error;
		status = -1;
	}
	return status;
}
