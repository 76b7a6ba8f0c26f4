// SPDX-License-Identifier: Apache-2.0
#include "agent/command/run_remove.h"

#include "agent/command/run_lookup.h"
#include "agent/environment/environment.h"
#include "agent/job/run.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned attempts_of(struct store *s, const char *id)
{
	cleanup_fd int runs_fd = openat(s->state_fd, "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return runs_fd < 0 ? 0 : run_attempt_last(runs_fd, id);
}

// <experiment>_<seconds>_<8 hex digits>
static uint64_t seconds_of(const char *id)
{
	const char *last = strrchr(id, '_'), *p = last;
	uint64_t seconds;
	while (p && p > id && p[-1] != '_')
		p--;
	return p && parse_u64_n(p, (size_t)(last - p), &seconds) ? seconds : 0;
}

static int newest_first(const void *a, const void *b)
{
	uint64_t x = seconds_of(*(const char *const *)a), y = seconds_of(*(const char *const *)b);
	return x < y ? 1 : x > y ? -1 : 0;
}

// run.json is written for the last time at the end.
static int64_t ended_ms(struct store *s, const char *id)
{
	struct stat st;
	cleanup_free char *path = xasprintf("runs/%s/%u/run.json", id, attempts_of(s, id));
	if (fstatat(s->state_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return wall_ms();
	return (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
}

int runs_prune(struct store *s, const struct run_prune *prune, uint64_t *removed, struct error *err)
{
	cleanup_arena struct arena a = {0};
	const char **ids;
	size_t count, kept = 0;
	int rc = 0;
	*removed = 0;
	if (run_list(s, false, &a, &ids, &count, err) < 0)
		return -1;
	qsort(ids, count, sizeof(*ids), newest_first);
	for (size_t i = 0; i < count; i++) {
		if (run_is_active(s, ids[i]) || environment_step_is(s, ids[i]))
			continue;
		bool many = prune->keep && kept >= prune->keep;
		bool old = prune->by_age && wall_ms() - ended_ms(s, ids[i]) > prune->keep_for_ms;
		if (!many && !old) {
			kept++;
			continue;
		}
		if (run_remove(s, ids[i], err) == 0)
			(*removed)++;
		else
			rc = -1;
	}
	return rc;
}
