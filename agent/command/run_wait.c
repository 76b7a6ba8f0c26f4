// SPDX-License-Identifier: Apache-2.0
#include "agent/command/run_wait.h"

#include "agent/job/run.h"
#include "base/file.h"
#include "base/time.h"

#include <sys/file.h>
#include <unistd.h>

enum { AGAIN_MS = 10 };

// Sleeps in flock(2) until the run's owner has let go of it, by its last act or by its death.
static int wait_for_owner(struct store *s, const char *id, struct error *err)
{
	cleanup_free char *name = xasprintf("runs/.active/%s", id);
	cleanup_fd int fd = openat(s->state_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return error_set_errno(err, errno, "open %s", name);
	return file_lock(fd, LOCK_SH, name, err);
}

int run_wait(struct store *s, struct run_found *run, struct arena *a, struct run_summary *summary,
	struct error *err)
{
	// The record is swept by one process at a time; while others look at the lock as we do, it
	// may take a moment.
	for (;;) {
		if (wait_for_owner(s, run->id, err) < 0)
			return -1;
		run_sweep(s);
		if (run_found_attempt(s, run, 0, err) < 0 ||
			run_document_read(run->fd, a, summary, err) < 0)
			return -1;
		if (run_state_is_end(summary->state))
			return 0;
		sleep_ms(AGAIN_MS);
	}
}
