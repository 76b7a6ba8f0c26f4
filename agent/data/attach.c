// SPDX-License-Identifier: Apache-2.0
#include "agent/data/cache.h"
#include "agent/data/copy.h"
#include "agent/data/mount_guard.h"
#include "agent/data/mount_watch.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct data_mounts {
	struct data_mount *items;
	size_t count;
	int folder_fd;
	char *folder; // its path
	int64_t probe_ms;
	struct mount_guard guard;
	struct loop *loop;
	struct loop_source *news;
	void (*died)(void *data, size_t index, enum data_failure failure, const char *text);
	void *died_data;
};

// ---- one input

// What data_prepare() brought: leased, so that nothing evicts it while the job runs.
static int take_prepared(struct data_mount *m, const struct data_options *o, struct error *err)
{
	int found = cache_kept_lease(o->store->state_fd, m->ready->kept, &m->fd, err);
	if (found < 0)
		return -1;
	if (!found)
		return error_set(err, ERROR_SYSTEM, "%s was evicted", m->ready->kept);
	m->path = xasprintf("%s/%s", o->store->state_dir, m->ready->kept);
	return 0;
}

// Below one of the folders that the node allows, and by no link out of it.
static int take_bind(struct data_mount *m, const struct data_options *o, enum data_failure *failure,
	struct error *err)
{
	if (!o->policy->bind_roots.count) {
		m->path = xstrdup(m->source->path);
		return 0;
	}
	if (bind_open(o->policy, m->source->path, O_PATH, &m->fd, failure, err) < 0)
		return -1;
	m->path = xasprintf("/proc/self/fd/%d", m->fd);
	return 0;
}

static int make_folder(const struct data_mounts *all, struct data_mount *m, struct error *err)
{
	if (directory_make(all->folder_fd, m->source->name, 0755, err) < 0)
		return -1;
	m->path = xasprintf("%s/%s", all->folder, m->source->name);
	return 0;
}

void mount_close(struct data_mount *m, bool abort)
{
	struct error ignored;
	mount_watch_stop(m);
	if (m->kind && m->kind->remote) {
		close_fdp(&m->fd);
		m->fd = -1;
	}
	mount_remove(m->path, abort);
	process_release(&m->helper);
	helper_log_read(&m->log);
	helper_log_flush(&m->log);
	helper_log_release(&m->log);
	if (m->cache)
		directory_remove(m->store->state_fd, m->cache, &ignored);
	free(m->cache);
	m->cache = NULL;
	close_fdp(&m->cache_fd);
	m->cache_fd = -1;
	if (m->rc_password)
		explicit_bzero(m->rc_password, strlen(m->rc_password));
	free(m->rc_password);
	m->rc_password = NULL;
	m->mounted = false;
}

static int mount_it(const struct data_mounts *all, struct data_mount *m,
	const struct data_options *o, enum data_failure *failure, struct error *err)
{
	uint64_t seconds = m->source->max_seconds ? m->source->max_seconds : DATA_SECONDS_DEFAULT;
	if (make_folder(all, m, err) < 0)
		return -1;
	if (m->kind->open(m, o, now_ms() + (int64_t)seconds * 1000, failure, err) == 0) {
		m->mounted = true;
		return 0;
	}
	mount_close(m, true);
	if (!m->source->optional || *failure != DATA_NOT_FOUND)
		return -1;
	error_clear(err); // there is an empty folder
	return 0;
}

static int attach_one(const struct data_mounts *all, struct data_mount *m,
	const struct data_options *o, enum data_failure *failure, struct error *err)
{
	*failure = DATA_FAILED;
	if (m->source->mode == DATA_DIRECT)
		return 0;
	if (m->ready && m->ready->absent)
		return make_folder(all, m, err);
	if (m->kind)
		return mount_it(all, m, o, failure, err);
	if (attach_is_image(m->ready))
		return make_folder(all, m, err) < 0 ? -1 : attach_image(m, o, err);
	if (m->ready && m->ready->kept)
		return take_prepared(m, o, err);
	if (m->source->optional && access(m->source->path, F_OK) < 0 && errno == ENOENT)
		return make_folder(all, m, err);
	return take_bind(m, o, failure, err);
}

static void release_one(struct data_mount *m)
{
	if (m->mounted)
		mount_close(m, m->failed);
	rootfs_layers_release(m->layers);
	helper_log_release(&m->log);
	close_fdp(&m->fd);
	free(m->path);
}

static void release(struct data_mounts *all)
{
	loop_remove(all->news);
	mount_guard_stop(&all->guard);
	for (size_t i = 0; i < all->count; i++)
		release_one(&all->items[i]);
	close_fdp(&all->folder_fd);
	free(all->folder);
	free(all->items);
	free(all);
}

// ---- all of them

static struct data_mounts *new_mounts(
	const struct data_options *o, int folder_fd, struct error *err)
{
	char link[64], path[4096];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", folder_fd);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	int fd = n < 0 ? -1 : fcntl(folder_fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0) {
		error_set_errno(err, errno, "the folder of inputs");
		return NULL;
	}
	path[n] = '\0';
	struct data_mounts *all = xcalloc(1, sizeof(*all));
	*all = (struct data_mounts){.items = xcalloc(o->count ? o->count : 1, sizeof(*all->items)),
		.folder_fd = fd,
		.folder = xstrdup(path),
		.probe_ms = (int64_t)o->policy->probe_ms,
		.guard = {.process.pidfd = -1, .news_fd = -1}};
	return all;
}

struct data_mounts *data_attach(const struct data_options *o, const struct data_ready *ready,
	int folder_fd, size_t *failed, enum data_failure *failure, struct error *err)
{
	*failure = DATA_FAILED;
	*failed = 0;
	struct data_mounts *all = new_mounts(o, folder_fd, err);
	if (!all)
		return NULL;
	for (size_t i = 0; i < o->count; i++) {
		struct data_mount *m = &all->items[all->count++];
		*m = (struct data_mount){.source = &o->sources[i],
			.kind = mount_kind_of(&o->sources[i]),
			.ready = ready ? &ready[i] : NULL,
			.store = o->store,
			.fd = -1,
			.cache_fd = -1,
			.log = {.fd = -1, .line = o->log, .data = o->log_data},
			.helper.pidfd = -1};
		if (attach_one(all, m, o, failure, err) < 0) {
			*failed = i;
			error_context(err, "input %s", m->source->name);
			release(all);
			return NULL;
		}
	}
	if (mount_guard_start(&all->guard, all->items, all->count, all->probe_ms, err) == 0)
		return all;
	release(all);
	return NULL;
}

const char *data_mounts_path(const struct data_mounts *m, size_t i)
{
	return m->items[i].path;
}

bool data_mounts_map_ids(const struct data_mounts *m, size_t i)
{
	return !m->items[i].kind || !m->items[i].kind->plain_ids;
}

bool data_mounts_may_hang(const struct data_mounts *m)
{
	for (size_t i = 0; i < m->count; i++)
		if (m->items[i].silent)
			return true;
	return false;
}

bool data_mounts_own(const struct data_mounts *m, pid_t pid)
{
	for (size_t i = 0; m && i < m->count; i++)
		if (m->items[i].helper.pid == pid)
			return true;
	return m && pid > 0 && m->guard.process.pid == pid;
}

static void on_died(void *data, struct data_mount *m, enum data_failure failure, const char *text)
{
	struct data_mounts *all = data;
	all->died(all->died_data, (size_t)(m - all->items), failure, text);
}

static void tell_stalled(struct data_mount *m, unsigned seconds)
{
	bool remote = m->kind->remote;
	m->silent = m->kind->may_hang && seconds;
	if (!seconds) // it is back
		return;
	cleanup_free char *text =
		xasprintf("%s%s did not answer for %u s while the job ran; the mount was aborted",
			remote ? "the server of " : "its program", remote ? m->source->remote : "",
			seconds);
	mount_watch_lost(m, text);
}

static int watch_guard(struct data_mounts *all, struct error *err);

// It ends only if somebody kills it: then there is another one.
static void on_news(void *data, uint32_t events)
{
	struct data_mounts *all = data;
	struct error ignored;
	struct mount_news news;
	(void)events;
	ssize_t n = read(all->guard.news_fd, &news, sizeof(news));
	if (n == sizeof(news) && news.index < all->count)
		tell_stalled(&all->items[news.index], news.silent_s);
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	loop_remove(all->news);
	all->news = NULL;
	mount_guard_stop(&all->guard);
	if (mount_guard_start(&all->guard, all->items, all->count, all->probe_ms, &ignored) == 0)
		watch_guard(all, &ignored);
}

static int watch_guard(struct data_mounts *all, struct error *err)
{
	if (all->guard.news_fd < 0)
		return 0;
	all->news = loop_add_fd(all->loop, all->guard.news_fd, EPOLLIN, on_news, all, err);
	return all->news ? 0 : -1;
}

int data_mounts_watch(struct data_mounts *m, struct loop *loop,
	void (*died)(void *data, size_t index, enum data_failure failure, const char *text),
	void *data, struct error *err)
{
	m->died = died;
	m->died_data = data;
	for (size_t i = 0; i < m->count; i++)
		if (m->items[i].mounted && m->items[i].kind && m->items[i].kind->abort &&
			mount_watch_start(&m->items[i], loop, on_died, m, err) < 0)
			return -1;
	m->loop = loop;
	return watch_guard(m, err);
}

void data_mounts_abort(struct data_mounts *m)
{
	for (size_t i = 0; i < m->count; i++) {
		struct data_mount *one = &m->items[i];
		if (!one->mounted || !one->kind || !one->kind->abort)
			continue;
		one->kind->abort(one);
		mount_watch_lost(one, "it held the job up, which was to end, and was aborted");
	}
}

// What the job wrote, while the helper is still there.
static int flush(
	struct data_mount *m, int64_t deadline_ms, enum data_failure *failure, struct error *err)
{
	if (!m->mounted || !m->kind || m->source->mode != DATA_RW_MOUNT)
		return 0;
	if (m->failed || (m->program && m->helper.pid == 0)) {
		*failure = DATA_HELPER_DIED;
		return error_set(err, ERROR_UNAVAILABLE,
			"it went away while the job ran, maybe with some of what it had written");
	}
	return (m->kind->flush ? m->kind->flush : mount_flush)(m, deadline_ms, failure, err);
}

int data_detach(struct data_mounts *m, uint64_t flush_ms, size_t *failed,
	enum data_failure *failure, struct error *err)
{
	int rc = 0;
	int64_t deadline = now_ms() + (int64_t)flush_ms;
	if (!m)
		return 0;
	for (size_t i = 0; i < m->count; i++) {
		struct data_mount *one = &m->items[i];
		struct error second;
		enum data_failure what;
		if (flush(one, deadline, rc < 0 ? &what : failure, rc < 0 ? &second : err) == 0)
			continue;
		one->failed = true; // nobody waits for it any more
		if (rc == 0) {
			*failed = i;
			rc = error_context(err, "input %s", one->source->name);
		}
	}
	release(m);
	return rc;
}

int data_sweep(int folder_fd, struct error *err)
{
	char link[64], path[4096];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", folder_fd);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	cleanup_fd int copy = n < 0 ? -1 : fcntl(folder_fd, F_DUPFD_CLOEXEC, 3);
	DIR *folder = copy < 0 ? NULL : fdopendir(copy);
	if (!folder)
		return error_set_errno(err, errno, "the folder of inputs");
	copy = -1;
	path[n] = '\0';
	for (struct dirent *e; (e = readdir(folder)) != NULL;) {
		cleanup_free char *point = path_join(path, e->d_name);
		if (e->d_name[0] != '.')
			mount_remove(point, true); // its helper died with the supervisor
	}
	closedir(folder);
	return 0;
}
