// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/container_plan.h"

#include "base/text.h"

#include <linux/mount.h>

#define NOSUID	 MOUNT_ATTR_NOSUID
#define NODEV	 MOUNT_ATTR_NODEV
#define NOEXEC	 MOUNT_ATTR_NOEXEC
#define READONLY MOUNT_ATTR_RDONLY

enum { SHM_DEFAULT = 64 * 1024 * 1024 };

// Whoever may make device nodes (CAP_MKNOD is on Docker's list) must find no file system on which
// they work: everything is nodev, /dev too, whose devices are therefore the node's own, bound one
// by one.
static const struct container_step before_shm[] = {
	{STEP_FILESYSTEM, "proc", "/proc", NULL, NOSUID | NODEV | NOEXEC, .plain = true},
	{STEP_FILESYSTEM, "sysfs", "/sys", NULL, NOSUID | NODEV | NOEXEC | READONLY, .plain = true},
	{STEP_FILESYSTEM, "tmpfs", "/dev", "mode=755,size=64k", NOSUID | NODEV | NOEXEC,
		.plain = true},
	{STEP_BIND, "/dev/null", "/dev/null", NULL, NOSUID | NOEXEC},
	{STEP_BIND, "/dev/zero", "/dev/zero", NULL, NOSUID | NOEXEC},
	{STEP_BIND, "/dev/full", "/dev/full", NULL, NOSUID | NOEXEC},
	{STEP_BIND, "/dev/random", "/dev/random", NULL, NOSUID | NOEXEC},
	{STEP_BIND, "/dev/urandom", "/dev/urandom", NULL, NOSUID | NOEXEC},
	{STEP_BIND, "/dev/tty", "/dev/tty", NULL, NOSUID | NOEXEC},
	{STEP_FILESYSTEM, "devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5",
		NOSUID | NOEXEC},
	{STEP_FILESYSTEM, "mqueue", "/dev/mqueue", NULL, NOSUID | NODEV | NOEXEC},
	{STEP_LINK, "pts/ptmx", "/dev/ptmx"},
	{STEP_LINK, "/proc/self/fd", "/dev/fd"},
	{STEP_LINK, "/proc/self/fd/0", "/dev/stdin"},
	{STEP_LINK, "/proc/self/fd/1", "/dev/stdout"},
	{STEP_LINK, "/proc/self/fd/2", "/dev/stderr"},
};

// Docker's lists.
static const char *const masked[] = {
	"/proc/acpi",
	"/proc/asound",
	"/proc/interrupts",
	"/proc/kcore",
	"/proc/keys",
	"/proc/latency_stats",
	"/proc/sched_debug",
	"/proc/scsi",
	"/proc/timer_list",
	"/proc/timer_stats",
	"/sys/devices/virtual/powercap",
	"/sys/firmware",
};
static const char *const read_only[] = {
	"/proc/bus",
	"/proc/fs",
	"/proc/irq",
	"/proc/sys",
	"/proc/sysrq-trigger",
};

// "..", as a component, is refused rather than interpreted: nobody needs it, and each reader of the
// path would have to agree on what it means behind a symbolic link.
static bool has_parent(const char *path)
{
	for (const char *p = path; (p = strstr(p, "..")) != NULL; p += 2)
		if ((p == path || p[-1] == '/') && (p[2] == '/' || !p[2]))
			return true;
	return false;
}

static int check_path(const char *what, const char *path, struct error *err)
{
	if (*path != '/')
		return error_set(err, ERROR_INVALID, "%s %s: must be an absolute path", what, path);
	if (has_parent(path))
		return error_set(err, ERROR_INVALID, "%s %s: must not contain \"..\"", what, path);
	return 0;
}

static bool is_below(const char *path, const char *folder)
{
	size_t n = strlen(folder);
	return strncmp(path, folder, n) == 0 && (!path[n] || path[n] == '/');
}

// Nothing but "/" and "." as components.
static bool is_root(const char *path)
{
	for (;;) {
		path += strspn(path, "/");
		size_t n = strcspn(path, "/");
		if (n == 0)
			return true;
		if (n > 1 || *path != '.')
			return false;
		path += n;
	}
}

static int check_target(const char *target, struct error *err)
{
	if (check_path("mount at", target, err) < 0)
		return -1;
	const char *rest = target + strspn(target, "/") - 1;
	if (is_root(target))
		return error_set(err, ERROR_INVALID,
			"mount at %s: the whole root cannot be replaced", target);
	if (is_below(rest, "/proc") || is_below(rest, "/sys"))
		return error_set(err, ERROR_INVALID,
			"mount at %s: nothing can be mounted in /proc or /sys", target);
	return 0;
}

static int add_binds(
	struct container_plan *plan, const struct container_spec *spec, struct error *err)
{
	for (size_t i = 0; i < spec->bind_count; i++) {
		const struct container_bind *b = &spec->binds[i];
		if (b->source[0] != '/')
			return error_set(err, ERROR_INVALID,
				"mount of %s: must be an absolute path", b->source);
		if (check_target(b->target, err) < 0)
			return -1;
		plan->steps[plan->count++] = (struct container_step){
			.kind = STEP_BIND,
			.source = b->source,
			.target = b->target,
			.attributes = NOSUID | NODEV | (b->read_only ? READONLY : 0),
			.owned = b->owned,
		};
	}
	return 0;
}

int container_plan(struct arena *a, const struct container_spec *spec, struct container_plan *plan,
	struct error *err)
{
	if (spec->bind_count > CONTAINER_BINDS_MAX)
		return error_set(err, ERROR_LIMIT, "%zu mounts, at most %d are allowed",
			spec->bind_count, CONTAINER_BINDS_MAX);
	if (check_path("working directory", spec->cwd, err) < 0)
		return -1;
	struct container_plan p = {0};
	p.steps = arena_array(a, struct container_step,
		array_size(before_shm) + 1 + array_size(masked) + array_size(read_only) +
			spec->bind_count);
	for (size_t i = 0; i < array_size(before_shm); i++)
		p.steps[p.count++] = before_shm[i];
	unsigned long long shm = spec->shm_size ? spec->shm_size : SHM_DEFAULT;
	p.steps[p.count++] = (struct container_step){
		.kind = STEP_FILESYSTEM,
		.source = "tmpfs",
		.target = "/dev/shm",
		.options = arena_printf(a, "mode=1777,size=%llu", shm),
		.attributes = NOSUID | NODEV | NOEXEC,
	};
	for (size_t i = 0; i < array_size(masked); i++)
		p.steps[p.count++] = (struct container_step){
			.kind = STEP_MASK, .target = masked[i], .optional = true};
	for (size_t i = 0; i < array_size(read_only); i++)
		p.steps[p.count++] = (struct container_step){.kind = STEP_READ_ONLY,
			.target = read_only[i],
			.attributes = READONLY,
			.optional = true};
	if (add_binds(&p, spec, err) < 0)
		return -1;
	*plan = p;
	return 0;
}
