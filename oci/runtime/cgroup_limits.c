// SPDX-License-Identifier: Apache-2.0
//
// What the groups that this process is in leave to it: each of them and each one above counts, as
// the kernel holds to all of them.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/cgroup_internal.h"

#include <limits.h>
#include <stdio.h>

enum { SELF_MAX = 64 * 1024, VALUE_SIZE = 64 };

static bool read_value(const char *folder, const char *file, char text[VALUE_SIZE])
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/%s", folder, file);
	if (n < 0 || (size_t)n >= sizeof(path) || !cgroup_read(AT_FDCWD, path, text, VALUE_SIZE))
		return false;
	text[strcspn(text, "\n")] = '\0';
	return true;
}

static void lower_cpus(struct cgroup_limits *l, uint64_t quota, uint64_t period)
{
	double cpus = period ? (double)quota / (double)period : 0;
	if (cpus > 0 && (!l->cpus || cpus < l->cpus))
		l->cpus = cpus;
}

// "max 100000" says that there is none.
static void read_cpus(const char *folder, bool v2, struct cgroup_limits *l)
{
	char text[VALUE_SIZE], period_text[VALUE_SIZE];
	uint64_t quota, period;
	if (v2) {
		size_t n = read_value(folder, "cpu.max", text) ? strcspn(text, " ") : 0;
		if (n && text[n] && parse_u64_n(text, n, &quota) &&
			parse_u64(text + n + 1, &period))
			lower_cpus(l, quota, period);
	} else if (read_value(folder, "cpu.cfs_quota_us", text) && parse_u64(text, &quota) &&
		   read_value(folder, "cpu.cfs_period_us", period_text) &&
		   parse_u64(period_text, &period)) {
		lower_cpus(l, quota, period);
	}
}

// Version 1 says "none" by the largest number of pages.
static void read_memory(const char *folder, bool v2, struct cgroup_limits *l)
{
	char text[VALUE_SIZE];
	uint64_t bytes;
	if (!read_value(folder, v2 ? "memory.max" : "memory.limit_in_bytes", text) ||
		!parse_u64(text, &bytes) || bytes >= INT64_MAX - 1024 * 1024)
		return;
	if (!l->memory || bytes < l->memory)
		l->memory = bytes;
}

// "4:cpu,cpuacct:/a/b" of the hierarchy, version 2 is "0::/a/b". In the arena; NULL: not in it.
static const char *own_path(
	const struct cgroup_hierarchy *h, const char *self, unsigned controller, struct arena *a)
{
	for (const char *line = self, *end; *line; line = end + (*end == '\n')) {
		end = strchrnul(line, '\n');
		const char *names = memchr(line, ':', (size_t)(end - line));
		const char *path = names ? memchr(names + 1, ':', (size_t)(end - names - 1)) : NULL;
		if (!path)
			continue;
		const char *list = arena_strndup(a, names + 1, (size_t)(path - names - 1));
		bool mine = h->v2 ? !*list && line[0] == '0'
				  : cgroup_controllers_parse(list) & controller;
		if (mine)
			return arena_strndup(a, path + 1, (size_t)(end - path - 1));
	}
	return NULL;
}

static void read_hierarchy(const struct cgroup_hierarchy *h, const char *self, unsigned controller,
	struct cgroup_limits *l)
{
	cleanup_arena struct arena a = {0};
	const char *own = own_path(h, self, controller, &a);
	if (!own)
		return;
	// A path that is not below the mount (a container's own view of a part) reads as nothing.
	for (char *path = arena_printf(&a, "%s%s", h->mount, own);;) {
		if (controller == CONTROLLER(CPU))
			read_cpus(path, h->v2, l);
		else
			read_memory(path, h->v2, l);
		char *slash = strrchr(path, '/');
		if (!slash || strlen(path) <= strlen(h->mount))
			return;
		*slash = '\0';
	}
}

void cgroup_limits_read(
	const struct cgroup_machine *m, const char *self, struct cgroup_limits *limits)
{
	*limits = (struct cgroup_limits){0};
	for (size_t i = 0; i < m->count; i++) {
		const struct cgroup_hierarchy *h = &m->items[i];
		if (h->v2 || h->controllers & CONTROLLER(CPU))
			read_hierarchy(h, self, CONTROLLER(CPU), limits);
		if (h->v2 || h->controllers & CONTROLLER(MEMORY))
			read_hierarchy(h, self, CONTROLLER(MEMORY), limits);
	}
}

void cgroup_limits_own(struct cgroup_limits *limits)
{
	cleanup_buffer struct buffer self = {0};
	struct error ignored;
	*limits = (struct cgroup_limits){0};
	if (file_read(AT_FDCWD, "/proc/self/cgroup", SELF_MAX, &self, &ignored) == 0 && self.size)
		cgroup_limits_read(cgroup_machine(), self.data, limits);
}
