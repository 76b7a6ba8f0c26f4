// SPDX-License-Identifier: Apache-2.0
#include "agent/job/run.h"
#include "base/file.h"

#include <unistd.h>

static unsigned attempts_of(struct store *s, const char *id)
{
	cleanup_fd int runs_fd = openat(s->state_fd, "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return runs_fd < 0 ? 0 : run_attempt_last(runs_fd, id);
}

// The record goes last: a removal that is broken off leaves a run that can be removed again.
int run_remove(struct store *s, const char *id, struct error *err)
{
	static const char *const large[] = {"upper", "work", "code", "outputs", "logs"};
	unsigned last = attempts_of(s, id);
	for (size_t i = 0; i < array_size(large) * last; i++) {
		cleanup_free char *path = xasprintf("runs/%s/%zu/%s", id,
			last - i / array_size(large), large[i % array_size(large)]);
		if (directory_remove(s->state_fd, path, err) < 0)
			return error_context(err, "run %s", id);
	}
	cleanup_free char *path = xasprintf("runs/%s", id);
	if (directory_remove(s->state_fd, path, err) < 0)
		return error_context(err, "run %s", id);
	return 0;
}
