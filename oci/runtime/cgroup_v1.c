// SPDX-License-Identifier: Apache-2.0
//
// Control groups of version 1: a folder in each hierarchy. The files are those of the kernel's
// Documentation/admin-guide/cgroup-v1/.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/cgroup_internal.h"

#include <glob.h>
#include <inttypes.h>
#include <stdio.h>

static const char *number(struct arena *a, int64_t n)
{
	return n == RUNTIME_UNLIMITED ? "-1" : arena_printf(a, "%" PRId64, n);
}

static void add(
	struct cgroup_settings *s, enum cgroup_controller c, const char *file, const char *value)
{
	cgroup_setting_add(s, c, SETTING_PLAIN, file, value);
}

static void memory_settings(
	struct arena *a, const struct runtime_resources *r, struct cgroup_settings *s)
{
	if (r->memory_limit)
		add(s, CONTROLLER_MEMORY, "memory.limit_in_bytes", number(a, r->memory_limit));
	if (r->memory_swap)
		add(s, CONTROLLER_MEMORY, "memory.memsw.limit_in_bytes", number(a, r->memory_swap));
	if (r->memory_reservation)
		add(s, CONTROLLER_MEMORY, "memory.soft_limit_in_bytes",
			number(a, r->memory_reservation));
	if (r->disable_oom_killer)
		add(s, CONTROLLER_MEMORY, "memory.oom_control", "1");
}

static void cpu_settings(
	struct arena *a, const struct runtime_resources *r, struct cgroup_settings *s)
{
	if (r->cpu_shares)
		add(s, CONTROLLER_CPU, "cpu.shares", arena_printf(a, "%" PRIu64, r->cpu_shares));
	if (r->cpu_period)
		add(s, CONTROLLER_CPU, "cpu.cfs_period_us",
			arena_printf(a, "%" PRIu64, r->cpu_period));
	if (r->cpu_quota)
		add(s, CONTROLLER_CPU, "cpu.cfs_quota_us", number(a, r->cpu_quota));
	if (r->cpus)
		add(s, CONTROLLER_CPUSET, "cpuset.cpus", r->cpus);
	if (r->mems)
		add(s, CONTROLLER_CPUSET, "cpuset.mems", r->mems);
}

static void throttles(struct arena *a, const struct runtime_throttles *t, const char *file,
	struct cgroup_settings *s)
{
	for (size_t i = 0; i < t->count; i++)
		add(s, CONTROLLER_IO, file,
			arena_printf(a, "%" PRId64 ":%" PRId64 " %" PRIu64, t->items[i].major,
				t->items[i].minor, t->items[i].rate));
}

static void io_settings(
	struct arena *a, const struct runtime_resources *r, struct cgroup_settings *s)
{
	if (r->block_weight) {
		const char *weight = arena_printf(a, "%u", (unsigned)r->block_weight);
		add(s, CONTROLLER_IO, "blkio.bfq.weight", weight);
		// Kernels before 5.0, whose scheduler was another one.
		cgroup_setting_add(s, CONTROLLER_IO, SETTING_INSTEAD, "blkio.weight", weight);
	}
	throttles(a, &r->read_bytes, "blkio.throttle.read_bps_device", s);
	throttles(a, &r->write_bytes, "blkio.throttle.write_bps_device", s);
	throttles(a, &r->read_operations, "blkio.throttle.read_iops_device", s);
	throttles(a, &r->write_operations, "blkio.throttle.write_iops_device", s);
}

int cgroup_v1_settings(struct arena *a, const struct runtime_resources *r,
	struct cgroup_settings *s, struct buffer *warnings, struct error *err)
{
	(void)warnings;
	// "configuration that refers to a controller that is not present" is an error by the
	// specification, and so it is not on the list of what is let go with a warning.
	if (r->unified.count)
		return error_set(err, ERROR_INVALID,
			"unified.%s: this machine has no cgroup version 2",
			r->unified.items[0].key);
	if (cgroup_check_swap(r, err) < 0)
		return -1;
	memory_settings(a, r, s);
	cpu_settings(a, r, s);
	io_settings(a, r, s);
	if (r->pids_limit)
		add(s, CONTROLLER_PIDS, "pids.max",
			r->pids_limit == RUNTIME_UNLIMITED ? "max" : number(a, r->pids_limit));
	for (size_t i = 0; i < r->hugepage_count; i++) {
		const struct runtime_hugepage_limit *h = &r->hugepages[i];
		if (strchr(h->page_size, '/'))
			return error_set(err, ERROR_INVALID, "page size %s: no such", h->page_size);
		add(s, CONTROLLER_HUGETLB,
			arena_printf(a, "hugetlb.%s.limit_in_bytes", h->page_size),
			arena_printf(a, "%" PRIu64, h->limit));
	}
	return 0;
}

// A group of cpuset has no processors at first, and takes no process until it has.
static int inherit_cpus(const char *folder, struct error *err)
{
	static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
	for (size_t i = 0; i < array_size(files); i++) {
		char text[4096], from[1024];
		snprintf(from, sizeof(from), "%s/../%s", folder, files[i]);
		if (!cgroup_read(AT_FDCWD, from, text, sizeof(text)))
			return error_set_errno(err, errno, "read %s", from);
		snprintf(from, sizeof(from), "%s/%s", folder, files[i]);
		if (cgroup_write(AT_FDCWD, from, text) < 0)
			return error_set_errno(err, errno, "write %s", from);
	}
	return 0;
}

// Since Linux 6.10 a disk's traffic is counted only once somebody has limited it; "no limit" is
// enough for that, and has no other effect. Once a boot, and only for disks that are hardware:
// what lies above them is counted there.
static void count_io(const struct cgroup_hierarchy *h, const char *path)
{
	char counters[sizeof(h->mount) + 64], text[64];
	snprintf(counters, sizeof(counters), "%s/blkio.throttle.io_service_bytes_recursive",
		h->mount);
	// "Total 0" alone: no disk is counted.
	if (!cgroup_read(AT_FDCWD, counters, text, sizeof(text)) || !starts_with(text, "Total "))
		return;
	cleanup_free char *file = xasprintf("%s%s/blkio.throttle.read_bps_device", h->mount, path);
	glob_t disks = {0};
	if (glob("/sys/block/*/device", GLOB_NOSORT, NULL, &disks) != 0)
		disks.gl_pathc = 0;
	for (size_t i = 0; i < disks.gl_pathc; i++) {
		const char *device = disks.gl_pathv[i];
		char numbers[32];
		cleanup_free char *name =
			xasprintf("%.*s", (int)(strlen(device) - strlen("ice")), device); // …/dev
		cgroup_read(AT_FDCWD, name, numbers, sizeof(numbers));
		cleanup_free char *limit =
			xasprintf("%.*s 0", (int)strcspn(numbers, "\n"), numbers);
		cgroup_write(AT_FDCWD, file, limit); // for statistics only: it may fail
	}
	globfree(&disks);
}

int cgroup_v1_make(const struct cgroup_hierarchy *h, const char *path, struct error *err)
{
	if (cgroup_make_folder(
		    h, path, h->controllers & CONTROLLER(CPUSET) ? inherit_cpus : NULL, err) < 0)
		return -1;
	if (h->controllers & CONTROLLER(IO))
		count_io(h, path);
	return 0;
}
