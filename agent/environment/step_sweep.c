// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/environment_internal.h"
#include "agent/job/run.h"
#include "agent/job/run_document.h"
#include "base/file.h"
#include "base/process.h"
#include "base/text.h"
#include "oci/store/entries.h"

#include <sys/stat.h>
#include <unistd.h>

// Somebody's experiment may be named as ours: only a step has a document of that name.
static bool is_step(int runs_fd, const char *id)
{
	cleanup_free char *document = xasprintf("%s/1/" STEP_DOCUMENT, id);
	return starts_with(id, STEP_EXPERIMENT "_") && file_exists(runs_fd, document);
}

// One that has ended is still read by the build whose step it was.
static bool has_builder(int runs_fd, const char *id)
{
	cleanup_arena struct arena a = {0};
	struct run_summary summary;
	struct error ignored;
	cleanup_fd int fd = run_attempt_open(runs_fd, id, 1, &ignored);
	if (fd < 0 || run_document_read(fd, &a, &summary, &ignored) < 0)
		return false;
	cleanup_fd int pidfd = process_find((pid_t)summary.client, (uint64_t)summary.client_start);
	return pidfd >= 0;
}

static bool is_left_step(int runs_fd, const char *id)
{
	cleanup_free char *active = xasprintf(".active/%s", id);
	return is_step(runs_fd, id) && !file_exists(runs_fd, active) && !has_builder(runs_fd, id);
}

bool environment_step_is(struct store *s, const char *run_id)
{
	cleanup_fd int runs_fd = openat(s->state_fd, "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return runs_fd >= 0 && is_step(runs_fd, run_id);
}

void environment_steps_sweep(struct store *s)
{
	cleanup_arena struct arena a = {0};
	struct store_names names;
	struct error ignored;
	run_sweep(s); // ends those whose supervisor was killed
	cleanup_fd int runs_fd = openat(s->state_fd, "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (runs_fd < 0 || store_names(runs_fd, ".", &a, &names, &ignored) < 0)
		return;
	for (size_t i = 0; i < names.count; i++)
		if (is_left_step(runs_fd, names.items[i]))
			run_remove(s, names.items[i], &ignored);
}
