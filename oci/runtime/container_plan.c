// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/container_plan.h"

#include "base/text.h"

#include <linux/mount.h>

// ".." as a component is refused rather than interpreted: nobody needs it, and each reader of the
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

// `path` without doubled slashes, "." components and a slash at the end, so that it can be
// compared.
static const char *normal_path(struct arena *a, const char *path)
{
	char *out = arena_strndup(a, path, strlen(path) + 1);
	size_t n = 0;
	for (const char *p = path; *p;) {
		p += strspn(p, "/");
		size_t length = strcspn(p, "/");
		if (length && !(length == 1 && *p == '.')) {
			out[n++] = '/';
			memcpy(out + n, p, length);
			n += length;
		}
		p += length;
	}
	if (n == 0)
		out[n++] = '/';
	out[n] = '\0';
	return out;
}

static bool is_below(const char *path, const char *folder)
{
	size_t n = strlen(folder);
	return strncmp(path, folder, n) == 0 && (!path[n] || path[n] == '/');
}

static bool is_one_of(const char *type, const char *const *types)
{
	for (; *types; types++)
		if (streq(type, *types))
			return true;
	return false;
}

// In /proc and /sys the kernel's own file systems may stand, at the places meant for them, and a
// view of the node's /sys where there is no network namespace to mount one for. Anything else there
// would be taken for the kernel's word (CVE-2019-16884 and its like).
static int check_kernel_target(const struct container_step *s, const char *path, struct error *err)
{
	static const char *const allowed_below_proc[] = {"/proc/cpuinfo", "/proc/diskstats",
		"/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
		"/proc/slabinfo", "/proc/sys/kernel/ns_last_pid", "/proc/net/dev", NULL};
	static const char *const kernel_types[] = {"proc", "sysfs", "cgroup", "cgroup2", "mqueue",
		"securityfs", "debugfs", "tracefs", "bpf", "fusectl", "pstore", "efivarfs",
		"configfs", "binfmt_misc", NULL};
	bool bind = s->kind == STEP_BIND, in_sys = is_below(path, "/sys");
	if (s->kind == STEP_CGROUP || (!in_sys && !is_below(path, "/proc")))
		return 0;
	if (bind ? (in_sys && is_below(s->source, "/sys")) ||
				(streq(path, "/proc") && streq(s->source, "/proc")) ||
				is_one_of(path, allowed_below_proc)
		 : is_one_of(s->source, kernel_types) ||
				(streq(s->source, "tmpfs") && is_below(path, "/sys/fs")))
		return 0;
	return error_set(err, ERROR_INVALID,
		"mount at %s: nothing of this kind can be mounted in /proc or /sys", path);
}

static int add_mount(struct arena *a, struct container_plan *plan, const struct runtime_mount *m,
	const char *bundle, struct error *err)
{
	struct container_step s = {.mount = m, .tree_fd = -1, .source = m->source};
	if (check_path("mount at", m->destination, err) < 0)
		return -1;
	s.target = normal_path(a, m->destination);
	if (streq(s.target, "/"))
		return error_set(err, ERROR_INVALID,
			"mount at %s: the whole root cannot be replaced", m->destination);
	if (mount_words_parse(a, &m->options, &s.words, err) < 0)
		return error_context(err, "mount at %s", m->destination);
	s.kind = s.words.bind || (m->type && streq(m->type, "bind")) ? STEP_BIND : STEP_FILESYSTEM;
	if (s.kind == STEP_BIND) {
		if (!s.source || !*s.source)
			return error_set(err, ERROR_INVALID, "mount at %s: no source", s.target);
		if (*s.source != '/' && !bundle)
			return error_set(err, ERROR_INVALID,
				"mount of %s: must be an absolute path", s.source);
		if (*s.source != '/')
			s.source = arena_printf(a, "%s/%s", bundle, s.source);
	} else {
		if (!m->type)
			return error_set(err, ERROR_INVALID, "mount at %s: no type", s.target);
		s.source = m->type;
		if (streq(m->type, "tmpfs") && streq(s.target, "/dev"))
			s.kind = STEP_DEVICES;
		else if (streq(m->type, "cgroup") || streq(m->type, "cgroup2"))
			s.kind = STEP_CGROUP;
		s.plain =
			streq(m->type, "proc") || streq(m->type, "sysfs") || s.kind == STEP_DEVICES;
	}
	if (s.words.copy_up && !(s.kind == STEP_FILESYSTEM && streq(s.source, "tmpfs")))
		return error_set(err, ERROR_INVALID,
			"mount at %s: \"tmpcopyup\" is for a tmpfs, and not for /dev", s.target);
	if (check_kernel_target(&s, s.target, err) < 0)
		return -1;
	plan->steps[plan->count++] = s;
	return 0;
}

static int add_covers(struct arena *a, struct container_plan *plan, enum container_step_kind kind,
	const struct json_strings *paths, struct error *err)
{
	for (size_t i = 0; i < paths->count; i++) {
		if (check_path(kind == STEP_MASK ? "masked path" : "read-only path",
			    paths->items[i], err) < 0)
			return -1;
		plan->steps[plan->count++] = (struct container_step){
			.kind = kind,
			.target = normal_path(a, paths->items[i]),
			.words.set = kind == STEP_READ_ONLY ? MOUNT_ATTR_RDONLY : 0,
			.optional = true,
			.tree_fd = -1,
		};
	}
	return 0;
}

static int check_devices(const struct runtime_spec *spec, struct error *err)
{
	for (size_t i = 0; i < spec->device_count; i++) {
		const char *path = spec->devices[i].path;
		if (check_path("device", path, err) < 0)
			return -1;
		if (strncmp(path, "/dev/", 5) != 0 || !path[5])
			return error_set(err, ERROR_INVALID, "device %s: must be below /dev", path);
	}
	return 0;
}

int container_plan(struct arena *a, const struct runtime_spec *spec, const char *bundle,
	struct container_plan *plan, struct error *err)
{
	size_t count = spec->mount_count + spec->masked_paths.count + spec->readonly_paths.count;
	if (count > CONTAINER_MOUNTS_MAX)
		return error_set(err, ERROR_LIMIT, "%zu mounts, at most %d are allowed", count,
			CONTAINER_MOUNTS_MAX);
	if (check_path("working directory", spec->process.cwd ? spec->process.cwd : "", err) < 0 ||
		check_devices(spec, err) < 0)
		return -1;
	struct container_plan p = {.steps = arena_array(a, struct container_step, count)};
	for (size_t i = 0; i < spec->mount_count; i++)
		if (add_mount(a, &p, &spec->mounts[i], bundle, err) < 0)
			return -1;
	if (add_covers(a, &p, STEP_MASK, &spec->masked_paths, err) < 0 ||
		add_covers(a, &p, STEP_READ_ONLY, &spec->readonly_paths, err) < 0)
		return -1;
	*plan = p;
	return 0;
}
