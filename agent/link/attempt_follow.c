// SPDX-License-Identifier: Apache-2.0
#include "agent/job/run_document.h"
#include "agent/link/attempt.h"
#include "agent/link/counters.h"
#include "agent/link/report.h"
#include "agent/link/results.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { TICK_MS = 2000, FAST_MS = 100, LATER_MS_MAX = 30 * 1000 };

// ---- the engine

int attempt_stoker(struct attempt *a, const char *const *words, const char *log, struct process *p,
	struct error *err)
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

bool attempt_is_running(struct process *p)
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
	if (!attempt_is_running(&a->asker) &&
		attempt_stoker(a, words, "ask.log", &a->asker, &err) < 0)
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

void attempt_pause(struct attempt *a, struct follow *f, int ms)
{
	struct pollfd fds[] = {{.fd = a->wake, .events = POLLIN},
		{.fd = f->later ? -1 : f->notify, .events = POLLIN},
		{.fd = a->engine.pid > 0 ? a->engine.pidfd : -1, .events = POLLIN}};
	char events[4096];
	eventfd_t ignored;
	poll(fds, 3, ms);
	if (fds[0].revents)
		eventfd_read(a->wake, &ignored);
	while (fds[1].revents && read(f->notify, events, sizeof(events)) > 0)
		;
}

static void heed(struct attempt *a)
{
	bool stale = attempt_is_stale(a);
	if (stale || attempt_is_canceled(a))
		ask_end(a, stale);
}

// true: all that there is has arrived, or never will.
static bool send_log(struct attempt *a, struct follow *f, unsigned last, bool whole)
{
	struct error err;
	if (attempt_is_stale(a) || log_sender_send(a->log, f->runs_fd, last, whole, &err) == 0)
		return true;
	if (err.kind != ERROR_UNAVAILABLE && !attempt_is_stale(a))
		log_warning("%s: its log: %s", a->id, err.text);
	return attempt_is_stale(a);
}

// The same of its results.
static bool send_results(struct attempt *a, int folder, bool whole)
{
	struct error err;
	if (a->upload_done || folder < 0 || attempt_is_stale(a))
		return true;
	if (!whole) {
		results_begin(a->results, folder);
		return true;
	}
	results_stop(a->results);
	const struct upload upload = {a->service, a->run};
	int rc = upload_round(&upload, folder, true, &a->uploaded, &err);
	link_counters.uploads++;
	link_counters.upload_failures += rc < 0;
	if (rc < 0 && err.kind == ERROR_UNAVAILABLE)
		return false;
	a->upload_done = true;
	if (rc == 0)
		return true;
	log_warning("%s: its results: %s", a->id, err.text);
	a->uploaded.failed = true;
	snprintf(a->uploaded.message, sizeof(a->uploaded.message), "%.250s", err.text);
	return true;
}

// What is on the disk of a run, at one moment.
struct look {
	struct arena arena;
	struct buffer text;
	unsigned last;
	int folder;
	bool engine, active, end;
	const struct json *record; // NULL: there is none
};

static void look_release(struct look *k)
{
	close_fdp(&k->folder);
	buffer_release(&k->text);
	arena_release(&k->arena);
}

// Who holds it is asked first: so what is read then is not older. -1: it could not be read now.
static int look_at(struct attempt *a, const struct follow *f, struct look *k, struct error *err)
{
	cleanup_free char *lock = path_join(".active", a->id);
	*k = (struct look){.folder = -1, .engine = attempt_is_running(&a->engine)};
	k->active = file_exists(f->runs_fd, lock);
	k->last = run_attempt_last(f->runs_fd, a->id);
	if (!k->last)
		return 0;
	k->folder = run_attempt_open(f->runs_fd, a->id, k->last, err);
	if (k->folder >= 0)
		k->record = run_document_tree(k->folder, &k->arena, &k->text, err);
	if (!k->record && (err->kind == ERROR_SYSTEM || err->kind == ERROR_UNAVAILABLE))
		return -1;
	k->end = !k->engine && !k->active && k->record && report_is_end(k->record);
	return 0;
}

static void say_lost(struct attempt *a)
{
	char text[512];
	bool started = file_exists(a->folder, "started");
	engine_words(a, text);
	const struct report_end end = {.state = RUN_FAILED,
		.class = CAUSE_SYSTEM,
		.code = started ? "EngineLost" : "StartFailed",
		.message = text};
	attempt_say(a, &(struct attempt_words){.end = &end});
}

// It is known to be a run's: never again, and what it began with is in its folders.
static void note_start(struct attempt *a)
{
	struct error err;
	if (file_exists(a->folder, "started"))
		return;
	if (file_write_atomic(a->folder, "started", "", 0, 0600, &err) < 0)
		log_warning("%s: %s", a->id, err.text);
}

// What an agent that was killed had no time for is done by the next.
static void drop_restored(struct attempt *a, const struct look *k)
{
	struct error err;
	if (k->record && !k->engine && file_exists(a->folder, "restore") &&
		directory_remove(a->folder, "restore", &err) < 0)
		log_warning("%s: %s", a->id, err.text);
}

// true: it has ended and everything is said.
static bool step(struct attempt *a, struct follow *f)
{
	struct error err;
	__attribute__((cleanup(look_release))) struct look k;
	if (look_at(a, f, &k, &err) < 0) {
		log_warning("%s: %s", a->id, err.text);
		f->later = true;
		return false;
	}
	watch(a, f, k.last);
	heed(a);
	if (k.last)
		note_start(a);
	drop_restored(a, &k);
	bool sent = !k.last || send_log(a, f, k.last, k.end);
	sent = send_results(a, k.folder, k.end) && sent;
	f->later = !sent || (k.active && k.record && report_is_end(k.record)); // it is tidied up
	if (!k.engine && !k.active && !k.end) {
		say_lost(a);
		return true;
	}
	if (k.record)
		attempt_say(a,
			&(struct attempt_words){.record = k.record, .ending = k.end && !f->later});
	return k.end && !f->later;
}

void attempt_follow(struct attempt *a, struct follow *f)
{
	int wait = FAST_MS;
	int64_t swept = now_ms();
	while (!step(a, f)) {
		wait = !f->later ? TICK_MS : wait * 2 > LATER_MS_MAX ? LATER_MS_MAX : wait * 2;
		attempt_pause(a, f, wait);
		if (!f->later)
			wait = FAST_MS;
		if (now_ms() - swept < TICK_MS)
			continue;
		run_sweep(a->link->store); // a supervisor may have been killed
		swept = now_ms();
	}
}
