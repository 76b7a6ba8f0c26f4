// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"
#include "base/text.h"
#include "base/weaken.h"
#include "oci/runtime/cgroup_internal.h"

#include <stdio.h>
#include <unistd.h>

enum { PATH_LENGTH_MAX = 2048, PROCS_TEXT = 4096, SUBTREE_PROCS_MAX = 16 * 1024 * 1024 };

const struct cgroup_part *cgroup_part_of(const struct cgroup *g, enum cgroup_controller c)
{
	const bool v2 = cgroup_detect() == CGROUP_V2;
	for (size_t i = 0; i < g->count; i++) {
		const struct cgroup_part *part = &g->parts[i];
		// Which controllers a group of version 2 has is told by the files in it.
		const struct cgroup_hierarchy *h = part->hierarchy;
		if (h->v2 == v2 && (v2 || h->controllers & 1U << c))
			return part;
	}
	return NULL;
}

const struct cgroup_part *cgroup_part_v2(const struct cgroup *g)
{
	return g->count && g->parts[0].hierarchy->v2 ? &g->parts[0] : NULL;
}

const struct cgroup_part *cgroup_part_main(const struct cgroup *g)
{
	const struct cgroup_part *v2 = cgroup_part_v2(g);
	if (v2)
		return v2;
	const struct cgroup_part *freezer = cgroup_part_of(g, CONTROLLER_FREEZER);
	return freezer ? freezer : &g->parts[0];
}

void cgroup_free(struct cgroup *g)
{
	if (!g)
		return;
	for (size_t i = 0; i < g->count; i++) {
		close_fdp(&g->parts[i].dir);
		close_fdp(&g->parts[i].join);
	}
	free(g->path);
	free(g);
}

const char *cgroup_path(const struct cgroup *g)
{
	return g->path;
}

int cgroup_clone_fd(const struct cgroup *g)
{
	const struct cgroup_part *v2 = cgroup_part_v2(g);
	return v2 ? v2->dir : -1;
}

int cgroup_check_path(const char *path, struct error *err)
{
	bool good = path[0] == '/' && path[1] && strlen(path) < PATH_LENGTH_MAX;
	for (const char *p = path; good && *p;) {
		size_t n = strcspn(++p, "/");
		good = n > 0 && !(n <= 2 && strncmp(p, "..", n) == 0);
		p += n;
	}
	return good ? 0 : error_set(err, ERROR_INVALID, "%s: no path of a cgroup", path);
}

// Take the folder of one hierarchy into the handle. Returns 1 where it is not there.
static int add_part(struct cgroup *g, const struct cgroup_hierarchy *h, struct error *err)
{
	cleanup_free char *folder = xasprintf("%s%s", h->mount, g->path);
	cleanup_fd int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 && errno == ENOENT)
		return 1;
	if (dir < 0)
		return error_set_errno(err, errno, "open cgroup %s", folder);
	// Reading and writing where we may: version 2's list tells a process whether it is there.
	const char *file = h->v2 ? "cgroup.procs" : "tasks";
	cleanup_fd int join = openat(dir, file, (h->v2 ? O_RDWR : O_WRONLY) | O_CLOEXEC);
	if (join < 0)
		return error_set_errno(err, errno, "open %s/%s", folder, file);
	g->parts[g->count++] = (struct cgroup_part){h, steal_fd(&dir), steal_fd(&join)};
	return 0;
}

static struct cgroup *new_group(const char *path)
{
	struct cgroup *g = xcalloc(1, sizeof(*g));
	g->path = xstrdup(path);
	return g;
}

struct cgroup *cgroup_open(const char *path, struct error *err)
{
	const struct cgroup_machine *m = cgroup_machine();
	if (cgroup_check_path(path, err) < 0)
		return NULL;
	cleanup_cgroup struct cgroup *g = new_group(path);
	for (int v2 = 1; v2 >= 0; v2--) // version 2 first
		for (size_t i = 0; i < m->count; i++)
			if (m->items[i].v2 == v2 && add_part(g, &m->items[i], err) < 0)
				return NULL;
	if (!g->count) {
		error_set(err, ERROR_NOT_FOUND, "there is no cgroup %s", path);
		return NULL;
	}
	return steal(g);
}

// What is made so far, in an attempt that fails.
struct attempt {
	struct cgroup *group;
	struct error refused; // the first hierarchy that we may not make groups in
};

static void undo(struct attempt *t)
{
	if (!t->group)
		return;
	for (size_t i = t->group->count; i-- > 0;)
		cgroup_remove(t->group->parts[i].hierarchy, t->group->path);
	cgroup_free(t->group);
}

// Make the group in one hierarchy. That we may not is remembered, and no failure yet: an ordinary
// user may have a part of version 2, and none of version 1 beside it. Returns 1 then.
static int make_part(struct attempt *t, const struct cgroup_hierarchy *h, unsigned controllers,
	struct buffer *warnings, struct error *err)
{
	const char *path = t->group->path;
	int rc = h->v2 ? cgroup_v2_make(h, path, controllers, warnings, err)
		       : cgroup_v1_make(h, path, err);
	if (rc < 0 && (err->sys == EROFS || err->sys == EACCES || err->sys == EPERM)) {
		err->kind = ERROR_DENIED;
		if (!t->refused.kind)
			t->refused = *err;
		error_clear(err);
		return 1;
	}
	if (rc < 0)
		return -1;
	rc = add_part(t->group, h, err);
	return rc > 0 ? error_set(err, ERROR_SYSTEM, "cgroup %s went away", path) : rc;
}

static int make_parts(
	struct attempt *t, bool v2, unsigned needed, struct buffer *warnings, struct error *err)
{
	const struct cgroup_machine *m = cgroup_machine();
	for (size_t i = 0; i < m->count; i++) {
		const struct cgroup_hierarchy *h = &m->items[i];
		bool wanted = v2 ? h->v2 : !h->v2 && (h->controllers & needed);
		if (wanted && make_part(t, h, needed, warnings, err) < 0)
			return -1;
	}
	return 0;
}

// The device rules, by a program where that is possible. On version 1 the rules may end up in
// `s` instead, and then a group in that hierarchy is needed.
static int apply_devices(const struct cgroup *g, struct arena *a, const struct runtime_resources *r,
	bool fresh, struct cgroup_settings *s, struct buffer *warnings, struct error *err)
{
	if (!r->devices.count || weakened("cgroup-devices"))
		return 0;
	const struct cgroup_part *v2 = cgroup_part_v2(g);
	struct error refused = {.kind = ERROR_SYSTEM, .text = "no cgroup of version 2"};
	if (v2 && cgroup_device_attach(v2->dir, &r->devices, fresh, &refused) == 0)
		return 0;
	const struct cgroup_machine *m = cgroup_machine();
	for (size_t i = 0; i < m->count; i++)
		if (m->items[i].controllers & CONTROLLER(DEVICES))
			return cgroup_device_settings(a, &r->devices, s, err);
	if (refused.kind == ERROR_INVALID || refused.kind == ERROR_LIMIT) {
		*err = refused;
		return -1;
	}
	buffer_printf(warnings, "device rules cannot be kept here: %s\n", refused.text);
	return 0;
}

static int compute(struct arena *a, const struct runtime_resources *r, struct cgroup_settings *s,
	struct buffer *warnings, struct error *err)
{
	cgroup_settings_init(s, a, r);
	return cgroup_detect() == CGROUP_V2 ? cgroup_v2_settings(a, r, s, warnings, err)
					    : cgroup_v1_settings(a, r, s, warnings, err);
}

// What a group is for besides its limits: statistics, and to end what is in it. Each hierarchy
// costs some 50 microseconds, so no more than that.
static unsigned always_needed(bool has_v2)
{
	if (cgroup_detect() == CGROUP_V2)
		return CONTROLLER(MEMORY) | CONTROLLER(PIDS) | CONTROLLER(IO);
	unsigned needed = CONTROLLER(MEMORY) | CONTROLLER(IO);
	// Beside version 1, an empty version 2 still counts processor time, freezes and kills.
	// Without it, systemd tells by its own hierarchy which processes are a service's, to be
	// stopped with it: the container has to leave that.
	if (!has_v2)
		needed |= CONTROLLER(CPUACCT) | CONTROLLER(FREEZER) | CONTROLLER(SYSTEMD);
	return needed;
}

struct cgroup *cgroup_create(const char *path, const struct runtime_resources *r,
	struct buffer *warnings, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct cgroup_settings settings;
	if (cgroup_check_path(path, err) < 0 || compute(&a, r, &settings, warnings, err) < 0)
		return NULL;
	const unsigned limits = cgroup_settings_controllers(&settings);
	__attribute__((cleanup(undo))) struct attempt t = {.group = new_group(path)};
	if (make_parts(&t, true, limits | always_needed(true), warnings, err) < 0 ||
		apply_devices(t.group, &a, r, true, &settings, warnings, err) < 0)
		return NULL;
	unsigned needed = cgroup_settings_controllers(&settings) | always_needed(t.group->count);
	if (cgroup_detect() != CGROUP_V2 && make_parts(&t, false, needed, warnings, err) < 0)
		return NULL;
	if (!t.group->count) {
		*err = t.refused;
		if (!err->kind)
			error_set(err, ERROR_SYSTEM, "no cgroups are mounted on this machine");
		return NULL;
	}
	if (cgroup_apply(t.group, &settings, warnings, err) < 0)
		return NULL;
	return steal(t.group);
}

int cgroup_update(struct cgroup *g, const struct runtime_resources *r, struct buffer *warnings,
	struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct cgroup_settings settings;
	if (compute(&a, r, &settings, warnings, err) < 0 ||
		apply_devices(g, &a, r, false, &settings, warnings, err) < 0)
		return -1;
	return cgroup_apply(g, &settings, warnings, err);
}

// Is the caller in the list that cgroup.procs holds? CLONE_INTO_CGROUP may have put it there, and
// to move it once more would cost milliseconds at times.
static bool is_listed(int procs)
{
	char list[PROCS_TEXT], self[32];
	ssize_t n = pread(procs, list, sizeof(list) - 1, 0);
	list[n > 0 ? n : 0] = '\0';
	int size = snprintf(self, sizeof(self), "%d\n", (int)getpid());
	for (const char *p = list; (p = strstr(p, self)); p += size)
		if (p == list || p[-1] == '\n')
			return true;
	return false;
}

// A process that moves itself, and has one thread only, takes a short way through the kernel
// (since 5.4): no other process has to be kept from forking, which waits for an RCU grace period
// now and then. And the writer needs no rights over a process of another user namespace.
int cgroup_join(const struct cgroup *g, struct error *err)
{
	for (size_t i = 0; i < g->count; i++) {
		const struct cgroup_part *part = &g->parts[i];
		if (part->hierarchy->v2 && is_listed(part->join))
			continue;
		if (pwrite(part->join, "0", 1, 0) < 0)
			return error_set_errno(
				err, errno, "join cgroup %s%s", part->hierarchy->mount, g->path);
	}
	return 0;
}

int cgroup_attach(const struct cgroup *g, pid_t pid, struct error *err)
{
	char text[32];
	snprintf(text, sizeof(text), "%d", (int)pid);
	for (size_t i = 0; i < g->count; i++)
		if (cgroup_write(g->parts[i].dir, "cgroup.procs", text) < 0)
			return error_set_errno(err, errno, "move process %d to cgroup %s%s",
				(int)pid, g->parts[i].hierarchy->mount, g->path);
	return 0;
}

static int add_processes(int dir, const char *folder, struct buffer *text, struct error *err)
{
	cleanup_fd int fd = openat(dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) // gone meanwhile
		return errno == ENOENT ? 0 : error_set_errno(err, errno, "open cgroup %s", folder);
	if (file_read(fd, "cgroup.procs", SUBTREE_PROCS_MAX, text, err) == 0)
		return 0;
	// A threaded group: its processes are listed above it. Or it went away.
	return err->sys == EOPNOTSUPP || err->sys == ENOENT || err->sys == ENODEV ? 0 : -1;
}

static int list_processes(int dir, struct arena *a, pid_t **pids, size_t *count, struct error *err)
{
	cleanup_arena struct arena tree = {0};
	cleanup_buffer struct buffer text = {0};
	char **below;
	size_t folders, used = 0;
	if (cgroup_tree(dir, &tree, &below, &folders, err) < 0 ||
		add_processes(dir, ".", &text, err) < 0)
		return -1;
	for (size_t i = 0; i < folders; i++)
		if (add_processes(dir, below[i], &text, err) < 0)
			return -1;
	pid_t *list = arena_array(a, pid_t, text.size / 2 + 1); // a digit and a newline each
	for (const char *p = text.size ? text.data : ""; *p;) {
		size_t n = strcspn(p, "\n");
		uint64_t pid;
		// 0: a process that our PID namespace does not see.
		if (parse_u64_n(p, n, &pid) && pid > 0 && pid <= INT32_MAX)
			list[used++] = (pid_t)pid;
		p += n + (p[n] == '\n');
	}
	*pids = list;
	*count = used;
	return 0;
}

int cgroup_processes(
	const struct cgroup *g, struct arena *a, pid_t **pids, size_t *count, struct error *err)
{
	if (list_processes(cgroup_part_main(g)->dir, a, pids, count, err) < 0)
		return -1;
	// A process that somebody put into one hierarchy alone is in the way there as well.
	for (size_t i = 0; i < g->count && !*count; i++)
		if (list_processes(g->parts[i].dir, a, pids, count, err) < 0)
			return -1;
	return 0;
}
