// SPDX-License-Identifier: Apache-2.0
#include "agent/data/mount_guard.h"

#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TICK_MS = 250, AGAIN_MS = 1000, INTERVAL_MS_MIN = 1000, PF_EXITING = 4 };

struct guarded {
	struct data_mount *m;
	struct process probe; // pid 0: none under way
	int64_t next_ms;      // when to look, or when to give up looking
	int64_t silent_ms;    // since when nothing was answered; 0: it answers
	bool ended;	      // the probe, with this status
	int status;
	bool told;
};

struct guard {
	struct guarded *items;
	size_t count;
	pid_t supervisor;
	int news_fd;
	int64_t interval_ms, look_ms;
};

static bool is_guarded(const struct data_mount *m)
{
	return m->mounted && m->kind && m->kind->abort;
}

// ---- in the process

// Leases, the client's connection: none may outlive the supervisor in here.
static void close_inherited(const struct guard *g)
{
	int *kept = xcalloc(g->count + 1, sizeof(*kept));
	size_t count = 0;
	kept[count++] = g->news_fd;
	for (size_t i = 0; i < g->count; i++)
		if (g->items[i].m->helper.pid > 0 && g->items[i].m->helper.pidfd > 2)
			kept[count++] = g->items[i].m->helper.pidfd;
	keep_only_fds(kept, count);
	free(kept);
}

// proc_pid_stat(5), the ninth field: a process that is killed says so before it is gone.
static bool is_ending(pid_t pid)
{
	char path[32];
	uint64_t flags = 0;
	cleanup_buffer struct buffer text = {0};
	struct error ignored;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (getppid() != pid || file_read(AT_FDCWD, path, 4096, &text, &ignored) < 0)
		return true;
	// Behind the name, which may hold anything: the state, five numbers, the flags.
	const char *field = strrchr(text.data, ')');
	for (int i = 0; field && i < 7; i++)
		field = strchr(field + 1, ' ');
	return !field || !parse_u64_n(field + 1, strcspn(field + 1, " "), &flags) ||
	       (flags & PF_EXITING);
}

static void end_probe(struct guarded *it)
{
	if (!it->ended)
		kill(it->probe.pid, SIGKILL);
	close_fdp(&it->probe.pidfd);
	it->probe = (struct process){.pidfd = -1};
	it->ended = false;
}

// A program that answers with an error answers; for a server the kernel says so that it does not.
static bool has_answered(const struct guarded *it)
{
	return it->ended && (!it->m->kind->remote || it->status == 0);
}

// A server may be away for as long as its restart takes.
static int64_t patience(const struct guard *g, const struct guarded *it)
{
	return 2 * (it->m->kind->remote ? g->interval_ms : g->look_ms);
}

static void tell(const struct guard *g, struct guarded *it, int64_t silent_ms)
{
	struct mount_news news = {.index = (uint32_t)(it - g->items),
		.silent_s = (uint32_t)((silent_ms + 999) / 1000)};
	if (it->told != (silent_ms > 0) && write(g->news_fd, &news, sizeof(news)) == sizeof(news))
		it->told = !it->told;
}

static void end_look(const struct guard *g, struct guarded *it, int64_t now)
{
	bool answered = has_answered(it), late = !it->ended;
	end_probe(it);
	if (answered) {
		tell(g, it, 0);
		it->silent_ms = 0;
		it->next_ms = now + g->interval_ms;
		return;
	}
	bool over = now - it->silent_ms >= patience(g, it);
	if (over) {
		// Again and again: of a network mount only those waits end that have begun.
		it->m->kind->abort(it->m);
		tell(g, it, now - it->silent_ms);
	}
	it->next_ms = !over && late ? now : now + AGAIN_MS;
}

static void look(const struct guard *g, struct guarded *it, int64_t now)
{
	struct error ignored;
	if (mount_child_start(mount_look, it->m->path, &it->probe, &ignored) < 0) {
		it->next_ms = now + g->interval_ms;
		return;
	}
	if (!it->silent_ms)
		it->silent_ms = now;
	it->next_ms = now + (it->told ? AGAIN_MS : g->look_ms);
}

static void step(const struct guard *g, struct guarded *it)
{
	int64_t now = now_ms();
	if (it->probe.pid > 0 && (it->ended || now >= it->next_ms))
		end_look(g, it, now);
	else if (it->probe.pid == 0 && now >= it->next_ms)
		look(g, it, now);
}

static void reap(struct guard *g)
{
	pid_t pid;
	int status;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (size_t i = 0; i < g->count; i++)
			if (g->items[i].probe.pid == pid) {
				g->items[i].ended = true;
				g->items[i].status = status;
			}
}

static void end_all(struct guard *g)
{
	for (size_t i = 0; i < g->count; i++) {
		struct data_mount *m = g->items[i].m;
		if (!is_guarded(m))
			continue;
		m->kind->abort(m);
		if (m->helper.pid > 0)
			syscall(SYS_pidfd_send_signal, m->helper.pidfd, SIGKILL, NULL, 0);
	}
}

static void guard(struct guard *g)
{
	close_inherited(g);
	for (;;) {
		struct pollfd gone = {.fd = g->news_fd}; // POLLERR: nobody reads it any more
		if (poll(&gone, 1, TICK_MS) > 0 || is_ending(g->supervisor)) {
			end_all(g);
			return;
		}
		reap(g);
		for (size_t i = 0; i < g->count; i++)
			if (is_guarded(g->items[i].m))
				step(g, &g->items[i]);
	}
}

// ---- outside

int mount_guard_start(struct mount_guard *g, struct data_mount *items, size_t count,
	int64_t interval_ms, struct error *err)
{
	int fds[2];
	bool any = false;
	for (size_t i = 0; i < count; i++)
		any = any || is_guarded(&items[i]);
	if (!any)
		return 0;
	if (interval_ms < INTERVAL_MS_MIN)
		interval_ms = INTERVAL_MS_MIN;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_set_errno(err, errno, "pipe");
	cleanup_fd int ours = fds[0], theirs = fds[1];
	struct guard all = {.items = xcalloc(count, sizeof(*all.items)),
		.count = count,
		.supervisor = getpid(),
		.news_fd = theirs,
		.interval_ms = interval_ms,
		.look_ms = interval_ms / 3 > INTERVAL_MS_MIN ? interval_ms / 3 : INTERVAL_MS_MIN};
	for (size_t i = 0; i < count; i++)
		all.items[i] = (struct guarded){
			.m = &items[i], .probe.pidfd = -1, .next_ms = now_ms() + interval_ms};
	pid_t pid = fork();
	if (pid == 0) {
		guard(&all);
		_exit(0);
	}
	free(all.items);
	if (pid < 0)
		return error_set_errno(err, errno, "fork");
	g->process = (struct process){.pid = pid, .pidfd = (int)syscall(SYS_pidfd_open, pid, 0)};
	g->news_fd = steal_fd(&ours);
	return 0;
}

void mount_guard_stop(struct mount_guard *g)
{
	process_release(&g->process);
	close_fdp(&g->news_fd);
	g->news_fd = -1;
}
