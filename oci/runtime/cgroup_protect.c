// SPDX-License-Identifier: Apache-2.0
//
// Protection of the agent and its supervisors from what the jobs do to the machine's memory.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/cgroup_internal.h"

#include <inttypes.h>
#include <stdio.h>

enum { NUMBER_TEXT = 32, SCORE = -900 }; // above sshd's -1000: who repairs the machine comes first

static void lower_oom_score(struct buffer *warnings)
{
	char text[NUMBER_TEXT], wanted[NUMBER_TEXT];
	int64_t now;
	cgroup_read(AT_FDCWD, "/proc/self/oom_score_adj", text, sizeof(text));
	text[strcspn(text, "\n")] = '\0';
	if (parse_i64(text, &now) && now <= SCORE)
		return;
	snprintf(wanted, sizeof(wanted), "%d", SCORE);
	if (cgroup_write(AT_FDCWD, "/proc/self/oom_score_adj", wanted) < 0)
		buffer_printf(warnings,
			"the agent may be killed when memory runs out: set oom_score_adj: %s\n",
			strerror(errno));
}

// What a parent keeps bounds what a child can keep of it, so each level needs the amount, and never
// gets less than it has: other groups may live from it.
static void keep_at_least(
	const char *folder, const char *file, uint64_t bytes, struct buffer *warnings)
{
	char path[4096], text[NUMBER_TEXT];
	uint64_t now = 0;
	snprintf(path, sizeof(path), "%s/%s", folder, file);
	cgroup_read(AT_FDCWD, path, text, sizeof(text));
	text[strcspn(text, "\n")] = '\0';
	if (streq(text, "max") || (parse_u64(text, &now) && now >= bytes))
		return;
	snprintf(text, sizeof(text), "%" PRIu64, bytes);
	if (cgroup_write(AT_FDCWD, path, text) < 0)
		buffer_printf(warnings, "no memory is kept for the agent: write %s: %s\n", path,
			strerror(errno));
}

static void keep_memory(
	const struct cgroup_hierarchy *h, const char *path, uint64_t bytes, struct buffer *warnings)
{
	cleanup_free char *folder = xasprintf("%s%s/", h->mount, path);
	for (char *p = strchr(folder + strlen(h->mount) + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		keep_at_least(folder, "memory.min", bytes, warnings);
		keep_at_least(folder, "memory.low", bytes, warnings);
		*p = '/';
	}
}

static void enter_group(const struct cgroup_hierarchy *h, const char *path, uint64_t memory_min,
	struct buffer *warnings)
{
	struct error err = {0};
	// Others of us may be in it already, which is no reason to refuse it.
	if (cgroup_v2_ensure(h, path, CONTROLLER(MEMORY), warnings, &err) < 0) {
		buffer_printf(warnings, "no memory is kept for the agent: %s\n", err.text);
		return;
	}
	keep_memory(h, path, memory_min, warnings);
	cleanup_free char *procs = xasprintf("%s%s/cgroup.procs", h->mount, path);
	if (cgroup_write(AT_FDCWD, procs, "0") < 0)
		buffer_printf(warnings, "no memory is kept for the agent: join %s: %s\n", procs,
			strerror(errno));
}

void cgroup_protect_self(const char *path, uint64_t memory_min, struct buffer *warnings)
{
	const struct cgroup_machine *m = cgroup_machine();
	struct error err = {0};
	lower_oom_score(warnings);
	if (cgroup_check_path(path, &err) < 0) {
		buffer_printf(warnings, "no memory is kept for the agent: %s\n", err.text);
		return;
	}
	if (m->mode != CGROUP_V2)
		buffer_puts(
			warnings, "no memory is kept for the agent: that needs cgroup version 2\n");
	for (size_t i = 0; i < m->count && m->mode == CGROUP_V2; i++)
		if (m->items[i].v2)
			enter_group(&m->items[i], path, memory_min, warnings);
}
