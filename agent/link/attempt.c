// SPDX-License-Identifier: Apache-2.0
#include "agent/link/attempt.h"
#include "agent/link/report.h"
#include "agent/link/results.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/time.h"
#include "base/trim.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum { START_BYTES_MAX = 8 * 1024 * 1024 };

// In node/attempts/, passed over or removed by who finds them.
static const char aside[] = ".unreadable.", gone[] = ".gone.";

// ---- words

void attempt_wake(struct attempt *a)
{
	eventfd_write(a->wake, 1);
}

void attempt_wake_all(struct link *l)
{
	for (struct attempt *a = l->attempts; a; a = a->next)
		attempt_wake(a);
}

bool attempt_heed(struct attempt *a, const struct service *s)
{
	pthread_mutex_lock(&a->link->lock);
	a->stale |= streq(service_code(s), "stale");
	bool stale = a->stale;
	pthread_mutex_unlock(&a->link->lock);
	return stale;
}

bool attempt_is_stale(struct attempt *a)
{
	return attempt_heed(a, a->service);
}

bool attempt_is_canceled(struct attempt *a)
{
	pthread_mutex_lock(&a->link->lock);
	bool cancel = a->cancel;
	pthread_mutex_unlock(&a->link->lock);
	return cancel;
}

static char *report_text(
	struct attempt *a, const struct attempt_words *s, bool canceling, int64_t sequence)
{
	const struct report_name name = {a->run, a->number, sequence, canceling};
	cleanup_buffer struct buffer b = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	struct error ignored;
	struct upload_status uploaded = a->uploaded;
	const char *trouble = log_sender_trouble(a->log);
	if (trouble && !uploaded.failed) {
		uploaded.failed = true;
		snprintf(uploaded.message, sizeof(uploaded.message), "%s", trouble);
	}
	if (s->record)
		report_write(w, &name, s->record, s->ending ? &uploaded : NULL);
	else
		report_write_bare(w, &name, s->end);
	return json_writer_finish(w, &b, &ignored) == 0 ? buffer_steal(&b) : NULL;
}

// Without its sequence it tells whether there is news.
void attempt_say(struct attempt *a, const struct attempt_words *s)
{
	bool canceling = attempt_is_canceled(a);
	cleanup_free char *text = report_text(a, s, canceling, 0);
	if (!text || (a->said && streq(text, a->said)))
		return;
	int64_t now = wall_us(), sequence = a->sequence < now ? now : a->sequence + 1;
	char *report = report_text(a, s, canceling, sequence);
	pthread_mutex_lock(&a->link->lock);
	free(a->report);
	a->report = report;
	a->sequence = sequence;
	a->ended = s->ending || s->end;
	pthread_mutex_unlock(&a->link->lock);
	free(a->said);
	a->said = steal(text);
	eventfd_write(a->link->news, 1);
}

// ---- the thread

static bool is_over(struct attempt *a)
{
	pthread_mutex_lock(&a->link->lock);
	bool over = a->known || a->stale;
	pthread_mutex_unlock(&a->link->lock);
	return over;
}

// In one step: of one that is removed halfway `started` may be gone first.
static int forget(const struct link *l, const char *id, struct error *err)
{
	cleanup_free char *path = xasprintf("node/attempts/%s", id);
	cleanup_free char *name = xasprintf("node/attempts/%s%s", gone, id);
	if (renameat(l->store->state_fd, path, l->store->state_fd, name) < 0)
		return error_set_errno(err, errno, "forget %s", path);
	return directory_remove(l->store->state_fd, name, err);
}

static void *attempt_main(void *data)
{
	struct attempt *a = data;
	struct error err;
	struct follow f = {.notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)};
	f.runs_fd = directory_ensure(a->link->store->state_fd, "runs", 0700, &err);
	if (attempt_start(a, &f))
		attempt_follow(a, &f);
	while (!is_over(a))
		attempt_pause(a, &f, -1);
	process_release(&a->engine);
	if (forget(a->link, a->id, &err) < 0)
		log_warning("%s", err.text);
	close_fdp(&f.notify);
	close_fdp(&f.runs_fd);
	pthread_mutex_lock(&a->link->lock);
	a->done = true;
	pthread_mutex_unlock(&a->link->lock);
	eventfd_write(a->link->news, 1);
	return NULL;
}

// ---- those that the node holds

static void attempt_free(struct attempt *a)
{
	results_free(a->results);
	log_sender_free(a->log);
	service_close(a->service);
	close_fdp(&a->folder);
	close_fdp(&a->wake);
	process_release(&a->asker);
	free(a->report);
	free(a->said);
	arena_release(&a->arena);
	free(a);
}

void attempt_reap(struct link *l)
{
	for (struct attempt **p = &l->attempts; *p;) {
		struct attempt *a = *p;
		pthread_mutex_lock(&l->lock);
		bool done = a->done;
		if (done)
			*p = a->next;
		pthread_mutex_unlock(&l->lock);
		if (!done) {
			p = &a->next;
			continue;
		}
		pthread_join(a->thread, NULL);
		attempt_free(a);
		if (!l->attempts) // it may be long until there is another
			memory_trim();
	}
}

// ERROR_INTEGRITY: there is none that can be used.
static int attempt_load(struct attempt *a, struct error *err)
{
	cleanup_buffer struct buffer b = {0};
	if (a->folder < 0 || file_read(a->folder, "start.json", START_BYTES_MAX, &b, err) < 0)
		return -1;
	const struct json_limits limits = {START_BYTES_MAX, 64, 1000000, false};
	a->start = json_parse(&a->arena, b.data, b.size, "start.json", &limits, err);
	const struct json *number = json_get(a->start, "attempt");
	a->run = json_get_string(a->start, "run");
	a->token = json_get_string(a->start, "token");
	bool named = a->run && a->token && number && number->type == JSON_INTEGER;
	if (a->start && !named)
		error_set(err, ERROR_INVALID, "start.json names no run");
	if (!named) {
		err->kind = ERROR_INTEGRITY;
		return -1;
	}
	a->number = (unsigned)number->integer;
	const struct credential *c = &a->link->credential;
	a->service = service_open(
		&(struct service_settings){
			.url = c->url, .token = a->token, .ca = c->ca, .cancel_fd = -1},
		err);
	a->log = log_sender_new(a);
	a->results = a->service ? results_new(a, err) : NULL;
	return a->results ? 0 : -1;
}

static int attempt_begin(struct link *l, const char *id, struct error *err)
{
	cleanup_free char *path = xasprintf("node/attempts/%s", id);
	struct attempt *a = xcalloc(1, sizeof(*a));
	a->link = l;
	a->id = arena_strdup(&a->arena, id);
	a->engine.pidfd = a->asker.pidfd = -1;
	a->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	a->folder = directory_open(l->store->state_fd, path, err);
	if (attempt_load(a, err) < 0) {
		attempt_free(a);
		return error_context(err, "%s", path);
	}
	attempt_say(a, &(struct attempt_words){0});
	a->next = l->attempts;
	if (pthread_create(&a->thread, NULL, attempt_main, a) != 0) {
		attempt_free(a);
		return error_set(err, ERROR_SYSTEM, "%s: no thread", path);
	}
	pthread_mutex_lock(&l->lock); // the socket's thread looks on
	l->attempts = a;
	pthread_mutex_unlock(&l->lock);
	return 0;
}

int attempt_accept(struct link *l, const struct json *start, struct error *err)
{
	const char *run = json_get_string(start, "run");
	const struct json *number = json_get(start, "attempt");
	if (!run || !*run || *run == '.' || strchr(run, '/') || strlen(run) > 140 || !number ||
		number->type != JSON_INTEGER || number->integer < 1)
		return error_set(err, ERROR_INVALID, "a start without a run's name");
	cleanup_free char *id = xasprintf("%s.%lld", run, (long long)number->integer);
	for (struct attempt *a = l->attempts; a; a = a->next)
		if (streq(a->id, id))
			return 0;
	cleanup_free char *path = xasprintf("node/attempts/%s", id);
	cleanup_fd int folder = directory_ensure(l->store->state_fd, path, 0700, err);
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	cleanup_buffer struct buffer b = {0};
	json_write_tree(w, start);
	if (folder < 0 || json_writer_finish(w, &b, err) < 0 ||
		file_write_atomic(folder, "start.json", b.data, b.size, 0600, err) < 0 ||
		fsync(folder) < 0)
		return -1;
	return attempt_begin(l, id, err);
}

// It cannot be followed without its token. Its job is ended; not being named in the polls, its
// attempt is lost to the controller after a lease, and the run goes to the next.
static void set_aside(struct link *l, const char *id, const struct error *why)
{
	cleanup_free char *path = xasprintf("node/attempts/%s", id);
	cleanup_free char *name = xasprintf("node/attempts/%s%s", aside, id);
	cleanup_free char *lock = xasprintf("runs/.active/%s", id);
	const char *const argv[] = {"stoker", "--state-dir", l->store->state_dir, "--run-dir",
		l->store->run_dir, "kill", id, NULL};
	struct error err;
	int state = l->store->state_fd;
	if (directory_remove(state, name, &err) < 0 || renameat(state, path, state, name) < 0) {
		log_error("%s; it could not be set aside", why->text);
		return;
	}
	log_error("%s; kept as %s, its job is ended, its run will be started again by the "
		  "controller",
		why->text, name);
	struct process killer = {.pidfd = -1};
	if (file_exists(state, lock) &&
		process_start(&(struct process_options){.argv = argv, .keep_stderr = true}, &killer,
			&err) < 0)
		log_warning("%s: %s", id, err.text);
	int status;
	if (killer.pid > 0)
		process_wait(&killer, &status, &err);
}

static int resume_one(struct link *l, int attempts_fd, const char *name, struct error *err)
{
	cleanup_free char *start = path_join(name, "start.json");
	if (streq(name, ".") || streq(name, "..") || starts_with(name, aside))
		return 0;
	// Without it it was never accepted: the controller says it again.
	if (starts_with(name, gone) || !file_exists(attempts_fd, start)) {
		if (directory_remove(attempts_fd, name, err) < 0)
			log_warning("node/attempts: %s", err->text);
		return 0;
	}
	if (attempt_begin(l, name, err) == 0)
		return 0;
	if (err->kind != ERROR_INTEGRITY)
		return -1;
	set_aside(l, name, err);
	return 0;
}

int attempt_resume_all(struct link *l, struct error *err)
{
	int fd = directory_ensure(l->store->state_fd, "node/attempts", 0700, err);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return fd < 0 ? -1 : error_set_errno(err, errno, "node/attempts");
	int rc = 0;
	for (struct dirent *e; rc == 0 && (e = readdir(dir));)
		rc = resume_one(l, fd, e->d_name, err);
	closedir(dir);
	return rc;
}
