// SPDX-License-Identifier: Apache-2.0
//
// Control groups of version 2: one folder, whose parents have to pass the controllers down. The
// files are those of the kernel's Documentation/admin-guide/cgroup-v2.rst.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/cgroup_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PERIOD_DEFAULT = 100000, LIST_TEXT = 1024, PROCS_TEXT = 65536 };

static const char *number(struct arena *a, int64_t n)
{
	return n == RUNTIME_UNLIMITED ? "max" : arena_printf(a, "%" PRId64, n);
}

static void add(
	struct cgroup_settings *s, enum cgroup_controller c, const char *file, const char *value)
{
	cgroup_setting_add(s, c, SETTING_PLAIN, file, value);
}

// The specification counts memory and swap together, version 2 counts the swap alone.
static int swap_setting(struct arena *a, const struct runtime_resources *r,
	struct cgroup_settings *s, struct error *err)
{
	if (cgroup_check_swap(r, err) < 0)
		return -1;
	if (!r->memory_swap)
		return 0;
	if (r->memory_swap == RUNTIME_UNLIMITED) {
		add(s, CONTROLLER_MEMORY, "memory.swap.max", "max");
		return 0;
	}
	add(s, CONTROLLER_MEMORY, "memory.swap.max", number(a, r->memory_swap - r->memory_limit));
	return 0;
}

static int memory_settings(struct arena *a, const struct runtime_resources *r,
	struct cgroup_settings *s, struct buffer *warnings, struct error *err)
{
	if (r->memory_limit) {
		add(s, CONTROLLER_MEMORY, "memory.max", number(a, r->memory_limit));
		// A job that lost one of its processes rarely notices, and hangs.
		add(s, CONTROLLER_MEMORY, "memory.oom.group",
			r->memory_limit == RUNTIME_UNLIMITED ? "0" : "1");
	}
	if (swap_setting(a, r, s, err) < 0)
		return -1;
	if (r->memory_reservation)
		add(s, CONTROLLER_MEMORY, "memory.low", number(a, r->memory_reservation));
	if (r->disable_oom_killer)
		buffer_puts(warnings, "disableOOMKiller cannot be kept here: cgroup version 2 has "
				      "no such thing\n");
	return 0;
}

// 2 … 262144 onto 1 … 10000, linearly, as all runtimes have done for years: 1024 becomes 39.
static uint64_t weight_of_shares(uint64_t shares)
{
	const uint64_t least = 2, most = 262144;
	if (shares < least)
		shares = least;
	if (shares > most)
		shares = most;
	return 1 + (shares - least) * 9999 / (most - least);
}

static void cpu_settings(
	struct arena *a, const struct runtime_resources *r, struct cgroup_settings *s)
{
	if (r->cpu_shares)
		add(s, CONTROLLER_CPU, "cpu.weight",
			arena_printf(a, "%" PRIu64, weight_of_shares(r->cpu_shares)));
	uint64_t period = r->cpu_period ? r->cpu_period : PERIOD_DEFAULT;
	if (r->cpu_quota || r->cpu_period)
		add(s, CONTROLLER_CPU, "cpu.max",
			arena_printf(a, "%s %" PRIu64,
				r->cpu_quota ? number(a, r->cpu_quota) : "max", period));
	if (r->cpus)
		add(s, CONTROLLER_CPUSET, "cpuset.cpus", r->cpus);
	if (r->mems)
		add(s, CONTROLLER_CPUSET, "cpuset.mems", r->mems);
}

static void throttles(struct arena *a, const struct runtime_throttles *t, const char *word,
	struct cgroup_settings *s)
{
	for (size_t i = 0; i < t->count; i++)
		add(s, CONTROLLER_IO, "io.max",
			arena_printf(a, "%" PRId64 ":%" PRId64 " %s=%" PRIu64, t->items[i].major,
				t->items[i].minor, word, t->items[i].rate));
}

static void io_settings(
	struct arena *a, const struct runtime_resources *r, struct cgroup_settings *s)
{
	if (r->block_weight) {
		const unsigned weight = r->block_weight;
		add(s, CONTROLLER_IO, "io.bfq.weight", arena_printf(a, "%u", weight));
		// 10 … 1000 onto 1 … 10000.
		unsigned scaled = weight <= 10 ? 1 : 1 + (weight - 10) * 9999 / 990;
		cgroup_setting_add(s, CONTROLLER_IO, SETTING_INSTEAD, "io.weight",
			arena_printf(a, "%u", scaled));
	}
	throttles(a, &r->read_bytes, "rbps", s);
	throttles(a, &r->write_bytes, "wbps", s);
	throttles(a, &r->read_operations, "riops", s);
	throttles(a, &r->write_operations, "wiops", s);
}

// Files by name, as the specification wants them: written last, so that they have the last word,
// and never let go with a warning.
static int unified_settings(
	const struct runtime_resources *r, struct cgroup_settings *s, struct error *err)
{
	for (size_t i = 0; i < r->unified.count; i++) {
		const char *file = r->unified.items[i].key;
		const char *dot = strchr(file, '.');
		// Also no file of the core, which could move processes or end them.
		unsigned set = 0;
		if (dot && !strchr(file, '/')) {
			char name[32];
			snprintf(name, sizeof(name), "%.*s", (int)(dot - file), file);
			set = cgroup_controllers_parse(name);
		}
		if (!set)
			return error_set(err, ERROR_INVALID,
				"unified.%s: no file of a controller that we know", file);
		cgroup_setting_add(s, (enum cgroup_controller)__builtin_ctz(set), SETTING_REQUIRED,
			file, r->unified.items[i].value);
	}
	return 0;
}

int cgroup_v2_settings(struct arena *a, const struct runtime_resources *r,
	struct cgroup_settings *s, struct buffer *warnings, struct error *err)
{
	if (memory_settings(a, r, s, warnings, err) < 0)
		return -1;
	cpu_settings(a, r, s);
	io_settings(a, r, s);
	if (r->pids_limit)
		add(s, CONTROLLER_PIDS, "pids.max", number(a, r->pids_limit));
	for (size_t i = 0; i < r->hugepage_count; i++) {
		const struct runtime_hugepage_limit *h = &r->hugepages[i];
		if (strchr(h->page_size, '/'))
			return error_set(err, ERROR_INVALID, "page size %s: no such", h->page_size);
		add(s, CONTROLLER_HUGETLB, arena_printf(a, "hugetlb.%s.max", h->page_size),
			arena_printf(a, "%" PRIu64, h->limit));
	}
	return unified_settings(r, s, err);
}

// A container's runtime starts us in the root of the tree that it delegates to us, and as long as
// any process is there, no controller can be given to groups below. So all that is there (our
// own kind: the container's) moves into a leaf beside the groups that we make.
static int move_into_leaf(const char *root, struct error *err)
{
	char leaf[512], list[PROCS_TEXT];
	snprintf(leaf, sizeof(leaf), "%s/init", root);
	if (mkdir(leaf, 0755) < 0 && errno != EEXIST)
		return error_set_errno(err, errno, "make cgroup %s", leaf);
	cleanup_fd int from = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_fd int to = open(leaf, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0 || to < 0)
		return error_set_errno(err, errno, "open cgroup %s", leaf);
	// More than once: they may fork meanwhile.
	for (int i = 0; i < 8 && cgroup_read(from, "cgroup.procs", list, sizeof(list)) && *list;
		i++) {
		char *rest = list;
		for (char *pid; (pid = strsep(&rest, "\n"));)
			if (*pid && cgroup_write(to, "cgroup.procs", pid) < 0 && errno != ESRCH)
				return error_set_errno(
					err, errno, "move process %s to cgroup %s", pid, leaf);
	}
	return 0;
}

static bool is_among(const char *list, pid_t pid)
{
	char line[32];
	snprintf(line, sizeof(line), "%d\n", (int)pid);
	const char *found = strstr(list, line);
	return found && (found == list || found[-1] == '\n');
}

// Write "+a +b" into a group's cgroup.subtree_control; one by one where all together are refused.
static unsigned enable(int dir, unsigned wanted)
{
	char all[256] = "";
	size_t used = 0;
	for (unsigned c = 0; c < CONTROLLERS; c++)
		if (wanted & 1U << c)
			used += (size_t)snprintf(all + used, sizeof(all) - used, "%s+%s",
				used ? " " : "", cgroup_controller_name(c, true));
	if (!wanted || cgroup_write(dir, "cgroup.subtree_control", all) == 0)
		return 0;
	int sys = errno;
	unsigned missing = 0;
	for (unsigned c = 0; c < CONTROLLERS; c++) {
		snprintf(all, sizeof(all), "+%s",
			wanted & 1U << c ? cgroup_controller_name(c, true) : "");
		if (wanted & 1U << c && cgroup_write(dir, "cgroup.subtree_control", all) < 0)
			missing |= 1U << c;
	}
	errno = sys;
	return missing;
}

// May this group give controllers to those below? Not with processes in it, the root of the whole
// machine excepted. The kernel would let some through (the threaded ones, such as pids), and make
// groups of them that no process can enter.
static bool can_pass_down(int dir, const char *folder, bool top, struct buffer *warnings)
{
	char list[PROCS_TEXT];
	struct error err = {0};
	if (faccessat(dir, "cgroup.type", F_OK, 0) < 0 || // which only the root lacks
		!cgroup_read(dir, "cgroup.procs", list, sizeof(list)) || !*list)
		return true;
	if (!top || !is_among(list, getpid())) {
		buffer_printf(warnings,
			"cgroup %s gives no limits to the groups below it: there are processes in "
			"it (for a service of systemd: set DelegateSubgroup= or start it "
			"elsewhere)\n",
			folder);
		return false;
	}
	if (move_into_leaf(folder, &err) < 0)
		buffer_printf(warnings, "%s\n", err.text);
	return !err.kind;
}

// Make one parent hand the controllers down. Returns those that the next level has.
static unsigned pass_down(const char *folder, bool top, unsigned wanted, struct buffer *warnings)
{
	char has[LIST_TEXT], given[LIST_TEXT];
	cleanup_fd int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || !cgroup_read(dir, "cgroup.controllers", has, sizeof(has)) ||
		!cgroup_read(dir, "cgroup.subtree_control", given, sizeof(given)))
		return 0;
	wanted &= cgroup_controllers_parse(has);
	unsigned missing = wanted & ~cgroup_controllers_parse(given);
	if (!missing)
		return wanted;
	if (!can_pass_down(dir, folder, top, warnings))
		return wanted & ~missing;
	missing = enable(dir, missing);
	if (missing)
		buffer_printf(warnings, "cgroup %s gives no limits to the groups below it: %s\n",
			folder, strerror(errno));
	return wanted & ~missing;
}

// Let the group have the controllers, as far as its parents can give them.
static int enable_all(const struct cgroup_hierarchy *h, const char *path, unsigned controllers,
	struct buffer *warnings, struct error *err)
{
	controllers &= h->controllers;
	if (!controllers)
		return 0;
	char list[LIST_TEXT];
	cleanup_free char *folder = xasprintf("%s%s", h->mount, path);
	cleanup_free char *file = xasprintf("%s/cgroup.controllers", folder);
	if (!cgroup_read(AT_FDCWD, file, list, sizeof(list)))
		return error_set_errno(err, errno, "read %s", file);
	if (!(controllers & ~cgroup_controllers_parse(list)))
		return 0; // the usual case: somebody before us needed them too
	char *const root = folder + strlen(h->mount);
	for (char *p = root; p && controllers; p = strchr(p + 1, '/')) {
		*p = '\0';
		controllers = pass_down(folder, p == root, controllers, warnings);
		*p = '/';
	}
	return 0;
}

int cgroup_v2_make(const struct cgroup_hierarchy *h, const char *path, unsigned controllers,
	struct buffer *warnings, struct error *err)
{
	if (cgroup_make_folder(h, path, NULL, err) < 0)
		return -1;
	return enable_all(h, path, controllers, warnings, err);
}

int cgroup_v2_ensure(const struct cgroup_hierarchy *h, const char *path, unsigned controllers,
	struct buffer *warnings, struct error *err)
{
	cleanup_free char *folder = xasprintf("%s%s", h->mount, path);
	if (access(folder, F_OK) < 0 && cgroup_make_folder(h, path, NULL, err) < 0)
		return -1;
	return enable_all(h, path, controllers, warnings, err);
}
