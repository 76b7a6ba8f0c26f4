// SPDX-License-Identifier: Apache-2.0
#include "agent/job/sandbox_internal.h"
#include "base/file.h"

#include <string.h>
#include <unistd.h>

enum {
	GROUP_FILE_MAX = 64 * 1024,
	NODE_RESERVE = 512 * 1024 * 1024,
	CPU_PERIOD = 100 * 1000, // microseconds
	CPU_SHARES = 1024,	 // of one CPU
};

// The group that systemd gives to a user's own services; he may make more below.
static char *own_group(void)
{
	cleanup_buffer struct buffer b = {0};
	struct error ignored;
	cleanup_free char *service = xasprintf("/user@%u.service", geteuid());
	if (file_read(AT_FDCWD, "/proc/self/cgroup", GROUP_FILE_MAX, &b, &ignored) < 0)
		return NULL;
	char *line = b.data ? strstr(b.data, "0::") : NULL;
	char *found = line ? strstr(line, service) : NULL;
	if (!found || (size_t)(found - line) > strcspn(line, "\n"))
		return NULL;
	return xasprintf("%.*s%s/stoker", (int)(found - line - 3), line + 3, service);
}

// What the node has without a reserve: a job that takes all memory is killed itself, and not what
// else the node runs.
static uint64_t node_memory(void)
{
	uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t reserve = total / 20 > NODE_RESERVE ? total / 20 : NODE_RESERVE;
	return total > 2 * reserve ? total - reserve : total / 2;
}

static void set_limits(struct sandbox *s, const struct job_resources *wanted)
{
	const struct job_policy *p = s->policy;
	struct runtime_resources *r = &s->spec.resources;
	double cpus = wanted->cpus > 0 ? wanted->cpus : p->cpus;
	uint64_t memory = wanted->memory ? wanted->memory : p->memory ? p->memory : node_memory();
	if (cpus > 0) {
		r->cpu_period = CPU_PERIOD;
		r->cpu_quota = (int64_t)(cpus * CPU_PERIOD);
		// And its part where more is asked for than the node has.
		double shares = cpus * CPU_SHARES;
		r->cpu_shares = shares < 2 ? 2 : shares > 262144 ? 262144 : (uint64_t)shares;
	}
	r->memory_limit = (int64_t)memory;
	r->memory_swap = (int64_t)(memory + wanted->memory_swap);
	r->pids_limit = (int64_t)(wanted->pids ? wanted->pids : p->pids);
}

int sandbox_group_open(struct sandbox *s, struct error *err)
{
	cleanup_free char *own = geteuid() == 0 ? NULL : own_group();
	cleanup_free char *path =
		xasprintf("%s/jobs/%s", own ? own : s->policy->cgroup, s->job.run->id);
	set_limits(s, &s->job.spec->resources);
	s->spec.cgroups_path = arena_strdup(&s->arena, path);
	if (s->policy->runtime) // it makes the group
		return 0;
	s->cgroup = cgroup_create(path, &s->spec.resources, &s->warnings, err);
	if (!s->cgroup && geteuid() != 0) {
		buffer_printf(&s->warnings, "no limits are kept for the job: %s\n", err->text);
		error_clear(err);
		return 0;
	}
	s->options.cgroup = s->cgroup;
	return s->cgroup ? 0 : -1;
}
