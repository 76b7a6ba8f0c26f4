// SPDX-License-Identifier: Apache-2.0
//
// What a group has used, from the files of whichever version counts it.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/cgroup_internal.h"

#include <stdio.h>
#include <unistd.h>

enum { STATS_TEXT = 16384, NUMBER_TEXT = 64, NS_PER_US = 1000, US_PER_S = 1000000 };

static bool read_number(int dir, const char *file, uint64_t *value)
{
	char text[NUMBER_TEXT];
	return cgroup_read(dir, file, text, sizeof(text)) &&
	       parse_u64_n(text, strcspn(text, "\n"), value);
}

static bool read_field(int dir, const char *file, const char *name, uint64_t *value)
{
	char text[STATS_TEXT];
	return cgroup_read(dir, file, text, sizeof(text)) && cgroup_field(text, name, value);
}

// Version 2 counts processor time whether or not the controller is enabled, also beside version 1.
static void cpu_v2(int dir, struct cgroup_stats *s)
{
	char text[STATS_TEXT];
	if (!cgroup_read(dir, "cpu.stat", text, sizeof(text)))
		return;
	s->has_cpu = cgroup_field(text, "usage_usec", &s->cpu_usec);
	cgroup_field(text, "user_usec", &s->cpu_user_usec);
	cgroup_field(text, "system_usec", &s->cpu_system_usec);
	cgroup_field(text, "throttled_usec", &s->throttled_usec);
}

static void cpu_v1(const struct cgroup *g, struct cgroup_stats *s)
{
	const struct cgroup_part *count = cgroup_part_of(g, CONTROLLER_CPUACCT);
	const struct cgroup_part *limit = cgroup_part_of(g, CONTROLLER_CPU);
	if (limit && read_field(limit->dir, "cpu.stat", "throttled_time", &s->throttled_usec))
		s->throttled_usec /= NS_PER_US;
	if (!count || s->has_cpu)
		return;
	s->has_cpu = read_number(count->dir, "cpuacct.usage", &s->cpu_usec);
	s->cpu_usec /= NS_PER_US;
	char text[STATS_TEXT];
	long ticks = sysconf(_SC_CLK_TCK);
	uint64_t user, system;
	if (ticks <= 0 || !cgroup_read(count->dir, "cpuacct.stat", text, sizeof(text)) ||
		!cgroup_field(text, "user", &user) || !cgroup_field(text, "system", &system))
		return;
	s->cpu_user_usec = user * US_PER_S / (uint64_t)ticks;
	s->cpu_system_usec = system * US_PER_S / (uint64_t)ticks;
}

static void memory_v2(int dir, struct cgroup_stats *s)
{
	s->has_memory = read_number(dir, "memory.current", &s->memory_bytes);
	if (!s->has_memory)
		return;
	s->has_memory_peak = read_number(dir, "memory.peak", &s->memory_peak_bytes);
	read_field(dir, "memory.events", "oom_kill", &s->oom_kills);
}

static void memory_v1(int dir, struct cgroup_stats *s)
{
	s->has_memory = read_number(dir, "memory.usage_in_bytes", &s->memory_bytes);
	s->has_memory_peak = read_number(dir, "memory.max_usage_in_bytes", &s->memory_peak_bytes);
	read_field(dir, "memory.oom_control", "oom_kill", &s->oom_kills);
}

void cgroup_sum_io_v2(const char *text, struct cgroup_stats *s)
{
	static const struct {
		const char *name;
		size_t offset;
	} fields[] = {
		{"rbytes=", offsetof(struct cgroup_stats, read_bytes)},
		{"wbytes=", offsetof(struct cgroup_stats, write_bytes)},
		{"rios=", offsetof(struct cgroup_stats, read_operations)},
		{"wios=", offsetof(struct cgroup_stats, write_operations)},
	};
	for (const char *p = text; *p;) { // "8:0 rbytes=1 wbytes=2 …"
		size_t n = strcspn(p, " \n");
		for (size_t i = 0; i < array_size(fields); i++) {
			size_t name = strlen(fields[i].name);
			uint64_t value;
			if (n > name && strncmp(p, fields[i].name, name) == 0 &&
				parse_u64_n(p + name, n - name, &value))
				*(uint64_t *)((char *)s + fields[i].offset) += value;
		}
		p += n + (p[n] != '\0');
	}
}

void cgroup_sum_io_v1(const char *text, uint64_t *reads, uint64_t *writes)
{
	for (const char *p = text; *p;) { // "8:0 Read 4096"; at last "Total 4096"
		size_t line = strcspn(p, "\n"), device = strcspn(p, " ");
		const char *word = device < line ? p + device + 1 : "";
		uint64_t *sum = starts_with(word, "Read ")    ? reads
				: starts_with(word, "Write ") ? writes
							      : NULL;
		const char *digits = sum ? strchr(word, ' ') + 1 : "";
		uint64_t value;
		if (sum && parse_u64_n(digits, strcspn(digits, "\n"), &value))
			*sum += value;
		p += line + (p[line] == '\n');
	}
}

static void io_v2(int dir, struct cgroup_stats *s)
{
	char text[STATS_TEXT];
	s->has_io = cgroup_read(dir, "io.stat", text, sizeof(text));
	cgroup_sum_io_v2(text, s);
}

static bool sum_io_v1(int dir, const char *file, uint64_t *reads, uint64_t *writes)
{
	char text[4 * STATS_TEXT]; // six lines of each disk, and loop devices are disks
	bool there = cgroup_read(dir, file, text, sizeof(text));
	cgroup_sum_io_v1(text, reads, writes);
	return there;
}

static void io_v1(const struct cgroup_part *part, struct cgroup_stats *s)
{
	static const char bytes[] = "blkio.throttle.io_service_bytes_recursive";
	static const char operations[] = "blkio.throttle.io_serviced_recursive";
	s->has_io = sum_io_v1(part->dir, bytes, &s->read_bytes, &s->write_bytes);
	sum_io_v1(part->dir, operations, &s->read_operations, &s->write_operations);
	if (!s->has_io || s->read_bytes || s->write_bytes)
		return;
	// Zero is the truth only where anything is counted: Linux 5.17 to 6.4 count what has a
	// limit, and there the whole machine seems never to have read a byte.
	uint64_t reads = 0, writes = 0;
	char root[sizeof(part->hierarchy->mount) + sizeof(bytes)];
	snprintf(root, sizeof(root), "%s/%s", part->hierarchy->mount, bytes);
	sum_io_v1(AT_FDCWD, root, &reads, &writes);
	s->has_io = reads || writes;
}

int cgroup_stats(const struct cgroup *g, struct cgroup_stats *stats, struct error *err)
{
	struct cgroup_stats s = {0};
	const struct cgroup_part *v2 = cgroup_part_v2(g);
	const struct cgroup_part *memory = cgroup_part_of(g, CONTROLLER_MEMORY);
	const struct cgroup_part *io = cgroup_part_of(g, CONTROLLER_IO);
	const struct cgroup_part *pids = cgroup_part_of(g, CONTROLLER_PIDS);
	if (v2)
		cpu_v2(v2->dir, &s);
	if (cgroup_detect() != CGROUP_V2)
		cpu_v1(g, &s);
	if (memory && memory->hierarchy->v2)
		memory_v2(memory->dir, &s);
	else if (memory)
		memory_v1(memory->dir, &s);
	if (io && io->hierarchy->v2)
		io_v2(io->dir, &s);
	else if (io)
		io_v1(io, &s);
	s.has_pids = pids && read_number(pids->dir, "pids.current", &s.pids);
	// Each of these is there in every group of its kind.
	if (!s.has_cpu && !s.has_memory && !s.has_io && !s.has_pids)
		return error_set(err, ERROR_NOT_FOUND, "cgroup %s is gone", g->path);
	*stats = s;
	return 0;
}
