// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/waiting.h"

#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

enum { STATUS_MAX = 16 * 1024 };

// proc_pid_status(5). Returns false if it does not wait uninterruptibly.
static bool is_waiting(int folder, const char *thread, uint64_t *switches)
{
	char path[64];
	cleanup_buffer struct buffer text = {0};
	struct error ignored;
	snprintf(path, sizeof(path), "%.32s/status", thread);
	if (file_read(folder, path, STATUS_MAX, &text, &ignored) < 0 || !text.data ||
		!strstr(text.data, "\nState:\tD"))
		return false;
	const char *field = strstr(text.data, "\nvoluntary_ctxt_switches:\t");
	field = field ? strchr(field, '\t') + 1 : "";
	return parse_u64_n(field, strcspn(field, "\n"), switches);
}

static bool was_there(const struct waiting *w, pid_t thread, uint64_t switches)
{
	for (size_t i = 0; i < w->count; i++)
		if (w->items[i].thread == thread && w->items[i].switches == switches)
			return true;
	return false;
}

static void look_at(struct waiting *now, pid_t pid)
{
	char path[64];
	uint64_t thread, switches;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *folder = opendir(path);
	if (!folder)
		return;
	for (struct dirent *e; (e = readdir(folder)) != NULL && now->count < WAITING_MAX;)
		if (parse_u64_n(e->d_name, strlen(e->d_name), &thread) &&
			is_waiting(dirfd(folder), e->d_name, &switches)) {
			now->items[now->count].thread = (pid_t)thread;
			now->items[now->count++].switches = switches;
		}
	closedir(folder);
}

bool waiting_look(struct waiting *w, const struct cgroup *g)
{
	cleanup_arena struct arena a = {0};
	struct waiting now = {.count = 0};
	struct error ignored;
	pid_t *pids;
	size_t count;
	bool stuck = false;
	if (!g || cgroup_processes(g, &a, &pids, &count, &ignored) < 0)
		return false;
	for (size_t i = 0; i < count; i++)
		look_at(&now, pids[i]);
	for (size_t i = 0; i < now.count; i++)
		stuck = stuck || was_there(w, now.items[i].thread, now.items[i].switches);
	*w = now;
	return stuck;
}
