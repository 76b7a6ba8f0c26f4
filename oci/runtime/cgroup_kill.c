// SPDX-License-Identifier: Apache-2.0
//
// The end of a group: everything in it is killed, however fast it forks, the kernel's word is
// waited for that nothing is left, and the folders go.
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"
#include "oci/runtime/cgroup_internal.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
	FREEZE_MS = 2000,
	SLICE_MS = 100,
	PAUSE_FIRST_US = 100,
	PAUSE_MAX_US = 20000,
	EVENTS_TEXT = 256
};

static int time_left(int64_t deadline)
{
	int64_t left = deadline - now_ms();
	return left <= 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

// Sleep for a little, and for longer the next time: for what tells no event.
static void pause_for(unsigned *us, int64_t deadline)
{
	int64_t left = (int64_t)time_left(deadline) * 1000;
	int64_t now = *us < left ? *us : left;
	nanosleep(&(struct timespec){.tv_nsec = now * 1000}, NULL);
	*us = 2 * *us < PAUSE_MAX_US ? 2 * *us : PAUSE_MAX_US;
}

// Wait until cgroup.events of version 2 says that `name` is `value`. Returns false after the
// deadline.
static bool wait_event(int dir, const char *name, uint64_t value, int64_t deadline)
{
	cleanup_fd int fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT; // the group itself is gone
	for (;;) {
		char text[EVENTS_TEXT];
		uint64_t now;
		ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
		if (n < 0)
			return errno == ENODEV;
		text[n] = '\0';
		if (cgroup_field(text, name, &now) && now == value)
			return true;
		struct pollfd p = {.fd = fd, .events = POLLPRI};
		int left = time_left(deadline);
		if (!left || (poll(&p, 1, left) < 0 && errno != EINTR))
			return false;
	}
}

static int freeze_v2(int dir, bool frozen, int64_t deadline)
{
	if (cgroup_write(dir, "cgroup.freeze", frozen ? "1" : "0") < 0)
		return -1;
	if (wait_event(dir, "frozen", frozen, deadline))
		return 0;
	errno = ETIMEDOUT;
	return -1;
}

// A process that forks while the rest is frozen keeps the state at FREEZING; the kernel freezes it
// in time, and reading the state makes it look again.
static int freeze_v1(int dir, bool frozen, int64_t deadline)
{
	const char *wanted = frozen ? "FROZEN\n" : "THAWED\n";
	unsigned us = PAUSE_FIRST_US;
	char state[32];
	if (cgroup_write(dir, "freezer.state", frozen ? "FROZEN" : "THAWED") < 0)
		return -1;
	while (cgroup_read(dir, "freezer.state", state, sizeof(state)) && !streq(state, wanted)) {
		if (!time_left(deadline)) {
			errno = ETIMEDOUT;
			return -1;
		}
		pause_for(&us, deadline);
	}
	return 0;
}

static int freeze(const struct cgroup *g, bool frozen, int64_t deadline)
{
	const struct cgroup_part *v2 = cgroup_part_v2(g);
	if (v2)
		return freeze_v2(v2->dir, frozen, deadline);
	const struct cgroup_part *v1 = cgroup_part_of(g, CONTROLLER_FREEZER);
	if (v1)
		return freeze_v1(v1->dir, frozen, deadline);
	errno = EOPNOTSUPP;
	return -1;
}

int cgroup_freeze(const struct cgroup *g, bool frozen, struct error *err)
{
	if (freeze(g, frozen, now_ms() + FREEZE_MS) < 0)
		return error_set_errno(
			err, errno, "%s cgroup %s", frozen ? "freeze" : "thaw", g->path);
	return 0;
}

// SIGKILL to everything, in groups that stand still meanwhile. That they cannot be made to stand
// still (a process in state D) must not save the rest: what forks away is met at the next turn.
static int signal_all(const struct cgroup *g, int64_t deadline, struct error *err)
{
	cleanup_arena struct arena a = {0};
	pid_t *pids;
	size_t count;
	int64_t soon = now_ms() + FREEZE_MS / 4;
	freeze(g, true, soon < deadline ? soon : deadline);
	int rc = cgroup_processes(g, &a, &pids, &count, err);
	for (size_t i = 0; rc == 0 && i < count; i++)
		kill(pids[i], SIGKILL);
	freeze(g, false, deadline);
	return rc;
}

// The kernel can do it by itself since 5.14, also to what is just being forked.
static bool kill_by_kernel(const struct cgroup *g)
{
	const struct cgroup_part *v2 = cgroup_part_v2(g);
	return v2 && cgroup_write(v2->dir, "cgroup.kill", "1") == 0;
}

// Remove all that can be removed. Returns 0 when nothing is left, else -1 with errno EBUSY where
// there still are processes.
static int remove_parts(const struct cgroup *g)
{
	int rc = 0, sys = EBUSY;
	for (size_t i = 0; i < g->count; i++)
		if (cgroup_remove(g->parts[i].hierarchy, g->path) < 0) {
			sys = rc < 0 && sys != EBUSY ? sys : errno;
			rc = -1;
		}
	errno = sys;
	return rc;
}

static int name_the_rest(const struct cgroup *g, int timeout_ms, struct error *err)
{
	cleanup_arena struct arena a = {0};
	pid_t *pids;
	size_t count;
	if (cgroup_processes(g, &a, &pids, &count, err) < 0)
		return -1;
	if (!count)
		return error_set(err, ERROR_LIMIT,
			"cgroup %s is still in use after %d ms, by no process that is seen here",
			g->path, timeout_ms);
	char file[64], text[512];
	snprintf(file, sizeof(file), "/proc/%d/stat", (int)pids[0]);
	cgroup_read(AT_FDCWD, file, text, sizeof(text));
	char *name = strchr(text, '('), *end = strrchr(text, ')'); // "12 (name) D …"
	bool known = name && end && end > name && end[1] == ' ';
	return error_set(err, ERROR_LIMIT,
		"cgroup %s: process %d (%.*s, state %c) does not end; %zu are left after %d ms",
		g->path, (int)pids[0], known ? (int)(end - name - 1) : 1, known ? name + 1 : "?",
		known ? end[2] : '?', count, timeout_ms);
}

int cgroup_destroy(struct cgroup *g, int timeout_ms, struct error *err)
{
	// The usual end: all processes are gone already.
	if (remove_parts(g) == 0)
		return 0;
	if (errno != EBUSY)
		return error_set_errno(err, errno, "remove cgroup %s", g->path);
	const int64_t deadline = now_ms() + timeout_ms;
	const struct cgroup_part *v2 = cgroup_part_v2(g);
	unsigned us = PAUSE_FIRST_US;
	for (bool killed = kill_by_kernel(g);; killed = false) {
		if (!killed && signal_all(g, deadline, err) < 0)
			return -1;
		// What got away from a signal must not be waited for to the end.
		if (v2)
			wait_event(
				v2->dir, "populated", 0, killed ? deadline : now_ms() + SLICE_MS);
		if (remove_parts(g) == 0)
			return 0;
		if (errno != EBUSY)
			return error_set_errno(err, errno, "remove cgroup %s", g->path);
		if (!time_left(deadline))
			return name_the_rest(g, timeout_ms, err);
		pause_for(&us, deadline);
	}
}
