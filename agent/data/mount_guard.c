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

enum { TICK_MS = 250, STRIKES = 2, INTERVAL_MS_MIN = 1000, PF_EXITING = 4 };

struct guarded {
	struct data_mount *m;
	struct process probe; // pid 0: none under way
	int64_t next_ms;      // when to look, or when to give up looking
	unsigned strikes;
	bool told;
};

struct guard {
	struct guarded *items;
	size_t count;
	pid_t supervisor;
	int news_fd;
	int64_t interval_ms, limit_ms;
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
	kill(it->probe.pid, SIGKILL);
	close_fdp(&it->probe.pidfd);
	it->probe = (struct process){.pidfd = -1};
}

static void strike(struct guard *g, struct guarded *it, uint32_t index)
{
	it->strikes++;
	end_probe(it);
	it->next_ms = now_ms();
	if (it->strikes < STRIKES)
		return;
	it->m->kind->abort(it->m);
	it->next_ms += g->interval_ms;
	if (!it->told && write(g->news_fd, &index, sizeof(index)) == sizeof(index))
		it->told = true;
}

static void step(struct guard *g, size_t i)
{
	struct guarded *it = &g->items[i];
	struct error ignored;
	if (it->probe.pid > 0) {
		struct pollfd p = {.fd = it->probe.pidfd, .events = POLLIN};
		if (poll(&p, 1, 0) > 0) { // an error is an answer, too
			end_probe(it);
			it->strikes = 0;
			it->next_ms = now_ms() + g->interval_ms;
		} else if (now_ms() >= it->next_ms) {
			strike(g, it, (uint32_t)i);
		}
	} else if (now_ms() >= it->next_ms) {
		if (mount_child_start(mount_look, it->m->path, &it->probe, &ignored) < 0)
			it->next_ms = now_ms() + g->interval_ms;
		else
			it->next_ms = now_ms() + g->limit_ms;
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
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		for (size_t i = 0; i < g->count; i++)
			if (is_guarded(g->items[i].m))
				step(g, i);
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
		.limit_ms = interval_ms / 3 > INTERVAL_MS_MIN ? interval_ms / 3 : INTERVAL_MS_MIN};
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
