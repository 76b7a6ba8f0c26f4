// SPDX-License-Identifier: Apache-2.0
#include "agent/data/prepare.h"

#include "agent/data/copy.h"
#include "base/file.h"
#include "base/process.h"
#include "base/time.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	NAP_MS = 50,
	ROOM_STEP = 64 * 1024 * 1024, // made for a file whose size nobody knows
};

int prepare_canceled(struct prepare *p)
{
	int *canceled = p->options->canceled;
	sigset_t set;
	if (!canceled)
		return 0;
	process_end_signals(&set);
	int signo = sigtimedwait(&set, NULL, &(struct timespec){0});
	if (signo > 0)
		*canceled = signo;
	return *canceled;
}

void prepare_total(struct prepare *p, size_t source, uint64_t done, uint64_t total)
{
	const struct data_events *e = p->options->events;
	if (e && e->progress)
		e->progress(e->data, source, done, total);
}

int prepare_progress(void *prepare, uint64_t bytes)
{
	struct prepare *p = prepare;
	prepare_total(p, p->current, bytes, 0);
	return prepare_canceled(p);
}

void prepare_notice(struct prepare *p, const char *text)
{
	const struct data_events *e = p->options->events;
	if (e && e->notice)
		e->notice(e->data, text);
}

int prepare_fail(struct prepare *p, enum data_failure failure)
{
	p->failure = failure;
	p->failed = p->current;
	return -1;
}

uint64_t prepare_max_bytes(const struct prepare *p, const struct data_source *s)
{
	uint64_t node = p->options->policy->max_bytes;
	return !s->max_bytes || (node && node < s->max_bytes) ? node : s->max_bytes;
}

static void fill_ready(struct prepare *p, size_t source, const char *digest, const char *below,
	int lease_fd, bool reused)
{
	struct data_ready *r = &p->ready[source];
	r->digest = arena_strdup(p->arena, digest);
	r->kept = arena_printf(
		p->arena, "datasets/trees/%s%s%s", digest, below ? "/" : "", below ? below : "");
	r->is_file = below != NULL;
	r->reused = reused;
	r->lease_fd = lease_fd;
}

int prepare_tree_begin(struct prepare *p, size_t source, const char *digest, const char *below,
	int *lock_fd, struct error *err)
{
	*lock_fd = -1;
	p->own = p->linked = 0;
	for (;;) {
		int lease = -1;
		int found = cache_tree_lease(&p->cache, digest, &lease, err);
		if (found > 0) {
			fill_ready(p, source, digest, below, lease, true);
			cache_building_unlock(&p->cache, digest, lock_fd);
		}
		if (found)
			return found < 0 ? prepare_fail(p, DATA_FAILED) : 1;
		if (*lock_fd >= 0)
			return 0;
		int busy = cache_building_lock(&p->cache, digest, lock_fd, err);
		if (busy < 0)
			return prepare_fail(p, DATA_FAILED);
		if (!busy)
			continue; // it may have come meanwhile
		sleep_ms(NAP_MS);
		if (prepare_canceled(p)) {
			error_set(err, ERROR_UNAVAILABLE, "canceled");
			return prepare_fail(p, DATA_FAILED);
		}
		if (now_ms() >= p->deadlines[source]) {
			error_set(err, ERROR_LIMIT, "another process did not prepare it in time");
			return prepare_fail(p, DATA_TIMEOUT);
		}
	}
}

int prepare_tree_commit(struct prepare *p, size_t source, struct cache_stage *stage,
	const char *digest, const char *below, struct error *err)
{
	int lease = -1;
	cache_tree_record(stage->fd, p->own, p->linked);
	if (cache_stage_commit(&p->cache, stage, digest, &lease, err) < 0)
		return prepare_fail(p, DATA_FAILED);
	fill_ready(p, source, digest, below, lease, false);
	return 0;
}

int prepare_private_copy(struct prepare *p, size_t source, struct error *err)
{
	struct data_ready *r = &p->ready[source];
	struct copy copy = {.writable = true,
		.deadline = p->deadlines[source],
		.progress = prepare_progress,
		.data = p};
	struct cache_stage stage;
	char kept[96];
	const char *name = r->is_file ? path_base(r->kept) : NULL;
	cleanup_fd int from = openat(p->options->store->state_fd, r->kept, O_RDONLY | O_CLOEXEC);
	if (from < 0) {
		error_set_errno(err, errno, "open %s", r->kept);
		return prepare_fail(p, DATA_FAILED);
	}
	if (cache_stage_new(&p->cache, &stage, err) < 0)
		return prepare_fail(p, DATA_FAILED);
	int status = name ? copy_file(&copy, from, stage.fd, name, err)
			  : copy_tree(&copy, from, stage.fd, err);
	int lease = -1;
	if (status == 0)
		status = cache_stage_keep_private(&p->cache, &stage, kept, &lease, err);
	cache_stage_drop(&p->cache, &stage);
	if (status < 0)
		return prepare_fail(p, copy.failure == DATA_OK ? DATA_FAILED : copy.failure);
	close_fdp(&r->lease_fd);
	r->lease_fd = lease;
	r->kept = arena_printf(p->arena, "%s%s%s", kept, name ? "/" : "", name ? name : "");
	return 0;
}

// What is optional and not there is an empty folder.
static int absent(struct prepare *p, size_t source)
{
	const struct data_source *s = &p->options->sources[source];
	if (!s->optional || p->failure != DATA_NOT_FOUND || p->failed != source)
		return -1;
	p->ready[source] = (struct data_ready){.absent = true, .lease_fd = -1};
	p->failure = DATA_OK;
	return 0;
}

static int prepare_one(struct prepare *p, size_t source, struct error *err)
{
	const struct data_source *s = &p->options->sources[source];
	p->current = source;
	int status = 0;
	bool mounted = s->kind == DATA_FUSE || s->kind == DATA_NFS || s->kind == DATA_CIFS;
	if (s->mode == DATA_DIRECT || p->ready[source].absent)
		return 0;
	if (s->kind == DATA_INLINE)
		status = prepare_inline(p, source, err);
	else if (s->kind == DATA_BIND && s->mode == DATA_DOWNLOAD)
		status = prepare_bind(p, source, err);
	else if (mounted && s->mode == DATA_DOWNLOAD)
		return prepare_mount(p, source, err) < 0 ? absent(p, source) : 0;
	else if (s->kind == DATA_OCI)
		status = prepare_oci(p, source, err);
	else if (s->kind == DATA_HTTP || (s->kind == DATA_FSIMAGE && s->file_count))
		status = prepare_http_finish(p, source, err);
	if (status == 0 && s->writable && s->mode == DATA_DOWNLOAD && p->ready[source].kept)
		status = prepare_private_copy(p, source, err);
	return status < 0 ? absent(p, source) : 0;
}

static int on_http_progress(void *data, size_t index)
{
	struct prepare *p = data;
	size_t source = p->files[index].source;
	uint64_t done = 0, total = 0;
	bool known = true;
	for (size_t i = 0; i < p->file_count; i++) {
		const struct data_http_file *f = &p->files[i];
		if (f->source != source)
			continue;
		uint64_t size = f->total ? f->total : f->file->size;
		done += f->done;
		total += size;
		known = known && size;
	}
	prepare_total(p, source, done, known ? total : 0);
	return prepare_canceled(p);
}

static void on_http_notice(void *data, size_t index, const char *text)
{
	struct prepare *p = data;
	struct error line;
	error_set(&line, ERROR_NONE, "input %s: %s",
		p->options->sources[p->files[index].source].name, text);
	prepare_notice(p, line.text);
}

// What is optional may be missing; what else becomes of its files is nobody's concern then.
static bool on_http_failed(void *data, size_t index, enum data_failure failure)
{
	struct prepare *p = data;
	size_t source = p->files[index].source;
	if (p->ready[source].absent)
		return true;
	p->current = source;
	prepare_fail(p, failure);
	return absent(p, source) == 0;
}

// All that may still be needed.
static void ask_again(struct prepare *p)
{
	size_t n = 0;
	for (size_t i = 0; i < p->file_count; i++) {
		struct data_http_file *f = &p->files[i];
		close_fdp(&f->lease_fd);
		f->lease_fd = -1;
		if (p->ready[f->source].absent)
			continue;
		f->complete = false;
		f->before += f->fetched;
		f->fetched = 0;
		p->files[n++] = *f;
	}
	p->file_count = n;
}

static int fetch(struct prepare *p, struct error *err)
{
	for (bool made_room = false; p->file_count; made_room = true) {
		struct data_http h = {.cache = &p->cache,
			.policy = p->options->policy,
			.files = p->files,
			.count = p->file_count,
			.progress = on_http_progress,
			.notice = on_http_notice,
			.forgive = on_http_failed,
			.data = p};
		if (data_http_fetch(&h, err) == 0)
			return 0;
		const struct data_http_file *f = &p->files[h.failed];
		p->current = f->source;
		prepare_fail(p, h.failure);
		// Downloads evict downloads; folders made of them keep those.
		if (h.failure != DATA_NO_SPACE || made_room ||
			cache_evict_trees(
				&p->cache, f->total ? f->total : f->done + ROOM_STEP, err) < 0)
			return -1;
		ask_again(p);
	}
	return 0;
}

static int run(struct prepare *p, struct error *err)
{
	const struct data_options *o = p->options;
	if (cache_open(&p->cache, o->store->state_fd, &o->policy->cache, err) < 0)
		return -1;
	if (cache_keep_limits(&p->cache, err) < 0)
		return -1;
	if (prepare_http_plan(p, err) < 0 || fetch(p, err) < 0)
		return -1;
	for (size_t i = 0; i < o->count; i++)
		if (prepare_one(p, i, err) < 0)
			return -1;
	return 0;
}

static void set_deadlines(struct prepare *p)
{
	const struct data_options *o = p->options;
	int64_t now = now_ms();
	p->deadlines = arena_array(p->arena, int64_t, o->count);
	for (size_t i = 0; i < o->count; i++) {
		uint64_t seconds = o->sources[i].max_seconds;
		p->deadlines[i] = now + (int64_t)(seconds ? seconds : DATA_SECONDS_DEFAULT) * 1000;
		p->ready[i].lease_fd = -1;
	}
}

int data_prepare(const struct data_options *o, struct arena *a, struct data_ready **ready,
	size_t *failed, enum data_failure *failure, struct error *err)
{
	struct prepare p = {.options = o,
		.arena = a,
		.failure = DATA_FAILED,
		.ready = arena_array(a, struct data_ready, o->count)};
	set_deadlines(&p);
	if (o->canceled) {
		sigset_t set;
		process_end_signals(&set);
		*o->canceled = 0;
		sigprocmask(SIG_BLOCK, &set, NULL); // and they stay so: see pull_options.canceled
	}
	int status = run(&p, err);
	cache_close(&p.cache);
	for (size_t i = 0; i < p.file_count; i++)
		close_fdp(&p.files[i].lease_fd);
	if (status == 0) {
		*ready = p.ready;
		return 0;
	}
	for (size_t i = 0; i < o->count; i++)
		close_fdp(&p.ready[i].lease_fd);
	if (o->canceled && *o->canceled)
		error_set(err, ERROR_UNAVAILABLE, "canceled by signal %d", *o->canceled);
	*failed = p.failed;
	*failure = p.failure == DATA_OK ? DATA_FAILED : p.failure;
	return o->count ? error_context(err, "input %s", o->sources[p.failed].name) : -1;
}
