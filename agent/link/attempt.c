// SPDX-License-Identifier: Apache-2.0
#include "agent/job/run_document.h"
#include "agent/link/link.h"
#include "agent/link/report.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/time.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TICK_MS = 2000, FAST_MS = 100, UPLOAD_MS = 10 * 1000, START_BYTES_MAX = 8 * 1024 * 1024 };

// ---- reports

void attempt_wake(struct attempt *a)
{
	eventfd_write(a->wake, 1);
}

// A report without its sequence, from the record or (NULL) from the bare words.
struct words {
	const struct json *record;
	bool ending, canceling;
	const char *code, *message;
};

static char *report_text(const struct attempt *a, const struct words *s, int64_t sequence)
{
	const struct report_name name = {a->run, a->number, sequence, s->canceling};
	cleanup_buffer struct buffer b = {0};
	cleanup_json_writer struct json_writer *w = json_writer_new(false);
	struct error ignored;
	if (s->record)
		report_write(w, &name, s->record, s->ending ? &a->uploaded : NULL);
	else
		report_write_bare(w, &name, s->code, s->message);
	return json_writer_finish(w, &b, &ignored) == 0 ? buffer_steal(&b) : NULL;
}

static void say(struct attempt *a, const struct words *what)
{
	struct words with = *what, *s = &with;
	pthread_mutex_lock(&a->link->lock);
	with.canceling = a->cancel;
	pthread_mutex_unlock(&a->link->lock);
	cleanup_free char *text = report_text(a, s, 0);
	if (!text || (a->said && streq(text, a->said)))
		return;
	int64_t now = wall_us(), sequence = a->sequence < now ? now : a->sequence + 1;
	char *report = report_text(a, s, sequence);
	pthread_mutex_lock(&a->link->lock);
	free(a->report);
	a->report = report;
	a->sequence = sequence;
	a->ended = s->ending || s->code;
	pthread_mutex_unlock(&a->link->lock);
	free(a->said);
	a->said = steal(text);
	eventfd_write(a->link->news, 1);
}

// ---- the engine

// `stoker VERB … ID`, as people would do it.
static int start_stoker(struct attempt *a, const char *const *words, const char *log,
	struct process *p, struct error *err)
{
	const struct link *l = a->link;
	const char *argv[16] = {
		"stoker", "--state-dir", l->store->state_dir, "--run-dir", l->store->run_dir};
	size_t n = 5;
	if (l->config) {
		argv[n++] = "--config";
		argv[n++] = l->config;
	}
	while (*words)
		argv[n++] = *words++;
	cleanup_fd int fd = openat(a->folder, log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set_errno(err, errno, "make %s", log);
	const struct process_fd fds[] = {{fd, 2}};
	return process_start(
		&(struct process_options){
			.argv = argv, .fds = fds, .fd_count = 1, .new_session = true},
		p, err);
}

static int start_engine(struct attempt *a, struct error *err)
{
	cleanup_free char *job =
		xasprintf("%s/node/attempts/%s/job.json", a->link->store->state_dir, a->id);
	const char *words[] = {"run", "-d", "--id", a->id, job, NULL};
	// An engine of an agent that was killed may be reading what is there: it is written once.
	if (!file_exists(a->folder, "job.json") && attempt_write_job(a, err) < 0)
		return -1;
	return start_stoker(a, words, "engine.log", &a->engine, err);
}

// true: it runs.
static bool is_running(struct process *p)
{
	struct pollfd fd = {.fd = p->pidfd, .events = POLLIN};
	struct error ignored;
	int status;
	if (p->pid <= 0)
		return false;
	if (poll(&fd, 1, 0) <= 0)
		return true;
	process_wait(p, &status, &ignored);
	return false;
}

static void ask_end(struct attempt *a, bool kill)
{
	const char *words[] = {kill ? "kill" : "stop", a->id, NULL};
	struct error err;
	if (!is_running(&a->asker) && start_stoker(a, words, "ask.log", &a->asker, &err) < 0)
		log_warning("%s: %s", a->id, err.text);
}

// What the engine said last.
static void engine_words(const struct attempt *a, char text[512])
{
	cleanup_buffer struct buffer b = {0};
	struct error ignored;
	if (file_read(a->folder, "engine.log", 64 * 1024, &b, &ignored) < 0 || !b.size) {
		snprintf(text, 512, "the run's files are gone");
		return;
	}
	if (b.data[b.size - 1] == '\n')
		b.data[--b.size] = '\0';
	const char *line = strrchr(b.data, '\n');
	snprintf(text, 512, "%.500s", line ? line + 1 : b.data);
	text_flatten(text);
}

// ---- following

struct follow {
	int runs_fd, notify;
	unsigned watched;
};

static void watch(struct attempt *a, struct follow *f, unsigned last)
{
	cleanup_free char *run = xasprintf("%s/runs/%s/%u", a->link->store->state_dir, a->id, last);
	cleanup_free char *logs = path_join(run, "user_logs");
	if (!last || last == f->watched)
		return;
	inotify_add_watch(f->notify, run, IN_MOVED_TO);
	inotify_add_watch(f->notify, logs, IN_MODIFY | IN_CREATE);
	f->watched = last;
}

static void pause_for(struct attempt *a, struct follow *f, int ms)
{
	struct pollfd fds[] = {{.fd = a->wake, .events = POLLIN},
		{.fd = f->notify, .events = POLLIN}, {.fd = a->engine.pidfd, .events = POLLIN}};
	char events[4096];
	eventfd_t ignored;
	if (a->engine.pid <= 0)
		fds[2].fd = -1;
	poll(fds, 3, ms);
	if (fds[0].revents)
		eventfd_read(a->wake, &ignored);
	while (fds[1].revents && read(f->notify, events, sizeof(events)) > 0)
		;
}

static void heed(struct attempt *a)
{
	pthread_mutex_lock(&a->link->lock);
	bool cancel = a->cancel, stale = a->stale;
	pthread_mutex_unlock(&a->link->lock);
	if (cancel || stale)
		ask_end(a, stale);
}

static bool is_stale(struct attempt *a)
{
	pthread_mutex_lock(&a->link->lock);
	a->stale |= streq(service_code(a->service), "stale");
	bool stale = a->stale;
	pthread_mutex_unlock(&a->link->lock);
	return stale;
}

// true: all that there is has arrived, or never will.
static bool send_log(struct attempt *a, struct follow *f, unsigned last, bool whole)
{
	struct error err;
	if (is_stale(a) || log_sender_send(a->log, f->runs_fd, last, whole, &err) == 0)
		return true;
	if (is_stale(a) || err.kind == ERROR_UNAVAILABLE)
		return a->stale;
	log_warning("%s: its log: %s", a->id, err.text);
	return whole;
}

// The same of its results.
static bool send_results(struct attempt *a, int folder, bool whole)
{
	struct error err;
	if (a->upload_done || folder < 0 || is_stale(a))
		return true;
	if (!whole && now_ms() < a->upload_ms)
		return true;
	int rc = upload_round(a, folder, whole, &a->uploaded, &err);
	a->upload_ms = now_ms() + UPLOAD_MS;
	if (rc == 0 || err.kind == ERROR_UNAVAILABLE) {
		a->upload_done = whole && rc == 0;
		return rc == 0 || !whole;
	}
	log_warning("%s: its results: %s", a->id, err.text);
	if (whole) {
		a->upload_done = a->uploaded.failed = true;
		snprintf(a->uploaded.message, sizeof(a->uploaded.message), "%.250s", err.text);
	}
	return true;
}

// true: it has ended and everything is said.
static bool step(struct attempt *a, struct follow *f, bool *later)
{
	cleanup_arena struct arena arena = {0};
	cleanup_buffer struct buffer b = {0};
	struct error err;
	bool engine = is_running(&a->engine);
	cleanup_free char *lock = path_join(".active", a->id);
	bool active = file_exists(f->runs_fd, lock);
	unsigned last = run_attempt_last(f->runs_fd, a->id);
	cleanup_fd int folder = last ? run_attempt_open(f->runs_fd, a->id, last, &err) : -1;
	const struct json *record = folder < 0 ? NULL : run_document_tree(folder, &arena, &b, &err);
	watch(a, f, last);
	heed(a);
	if (last && !file_exists(a->folder, "started") &&
		file_write_atomic(a->folder, "started", "", 0, 0600, &err) < 0)
		log_warning("%s: %s", a->id, err.text);
	bool end = !engine && !active && record && report_is_end(record);
	*later = (last && !send_log(a, f, last, end)) || !send_results(a, folder, end) ||
		 (active && record && report_is_end(record)); // it is being tidied up
	if (!engine && !active && !end) {
		char text[512];
		engine_words(a, text);
		say(a, &(struct words){.code = "EngineLost", .message = text});
		return true;
	}
	if (record)
		say(a, &(struct words){.record = record, .ending = end && !*later});
	return end && !*later;
}

static void follow(struct attempt *a, struct follow *f)
{
	int wait = FAST_MS;
	bool later = false;
	int64_t swept = now_ms();
	while (!step(a, f, &later)) {
		wait = !later ? TICK_MS : wait * 2 > 30000 ? 30000 : wait * 2;
		pause_for(a, f, wait);
		if (!later)
			wait = FAST_MS;
		if (now_ms() - swept < TICK_MS)
			continue;
		run_sweep(a->link->store); // a supervisor may have been killed
		swept = now_ms();
	}
}

static bool is_over(struct attempt *a)
{
	pthread_mutex_lock(&a->link->lock);
	bool over = a->known || a->stale;
	pthread_mutex_unlock(&a->link->lock);
	return over;
}

static bool begin(struct attempt *a, struct follow *f)
{
	struct error err;
	if (run_attempt_last(f->runs_fd, a->id) || file_exists(a->folder, "started"))
		return true;
	while (start_engine(a, &err) < 0) {
		if (err.kind != ERROR_UNAVAILABLE) {
			say(a, &(struct words){.code = "StartFailed", .message = err.text});
			return false;
		}
		pause_for(a, f, TICK_MS);
		pthread_mutex_lock(&a->link->lock);
		bool given_up = a->cancel || a->stale;
		pthread_mutex_unlock(&a->link->lock);
		if (given_up) {
			say(a, &(struct words){.code = "StartFailed", .message = err.text});
			return false;
		}
	}
	return true;
}

static void *attempt_main(void *data)
{
	struct attempt *a = data;
	struct error err;
	struct follow f = {.notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)};
	f.runs_fd = directory_ensure(a->link->store->state_fd, "runs", 0700, &err);
	if (begin(a, &f))
		follow(a, &f);
	while (!is_over(a))
		pause_for(a, &f, -1);
	process_release(&a->engine);
	cleanup_free char *path = xasprintf("node/attempts/%s", a->id);
	if (directory_remove(a->link->store->state_fd, path, &err) < 0)
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
	}
}

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
	if (!a->run || !a->token || !number || number->type != JSON_INTEGER)
		return a->start ? error_set(err, ERROR_INVALID, "start.json has no name") : -1;
	a->number = (unsigned)number->integer;
	const struct credential *c = &a->link->credential;
	a->service = service_open(
		&(struct service_settings){
			.url = c->url, .token = a->token, .ca = c->ca, .cancel_fd = -1},
		err);
	a->log = log_sender_new(a);
	return a->service ? 0 : -1;
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
	say(a, &(struct words){0});
	a->next = l->attempts;
	if (pthread_create(&a->thread, NULL, attempt_main, a) != 0) {
		attempt_free(a);
		return error_set(err, ERROR_SYSTEM, "%s: no thread", path);
	}
	l->attempts = a;
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

int attempt_resume_all(struct link *l, struct error *err)
{
	int fd = directory_ensure(l->store->state_fd, "node/attempts", 0700, err);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return fd < 0 ? -1 : error_set_errno(err, errno, "node/attempts");
	int rc = 0;
	for (struct dirent *e; rc == 0 && (e = readdir(dir));) {
		cleanup_free char *start = path_join(e->d_name, "start.json");
		if (e->d_name[0] == '.')
			continue;
		// Without it it was never accepted: the controller says it again.
		rc = file_exists(fd, start) ? attempt_begin(l, e->d_name, err)
					    : directory_remove(fd, e->d_name, err);
	}
	closedir(dir);
	return rc;
}
