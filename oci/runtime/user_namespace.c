// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/user_namespace.h"

#include "base/file.h"
#include "base/message.h"
#include "base/process.h"
#include "base/text.h"

#include <linux/sched.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SUBID_BYTES_MAX = 1024 * 1024, HELPER_MS = 10000, HELPER_OUTPUT_MAX = 4096 };

static int write_proc(pid_t pid, const char *file, const char *text)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	size_t size = strlen(text); // one write: the kernel takes the map whole or not at all
	return write(fd, text, size) == (ssize_t)size ? 0 : -1;
}

static void map_text(const struct runtime_id_maps *maps, struct buffer *text)
{
	for (size_t i = 0; i < maps->count; i++)
		buffer_printf(text, "%u %u %u\n", maps->items[i].container, maps->items[i].host,
			maps->items[i].size);
}

static int map_by_helper(
	const char *program, pid_t pid, const struct runtime_id_maps *maps, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer output = {0};
	const char **argv = arena_array(&a, const char *, 3 + maps->count * 3);
	size_t n = 0;
	argv[n++] = program;
	argv[n++] = arena_printf(&a, "%d", (int)pid);
	for (size_t i = 0; i < maps->count; i++) {
		argv[n++] = arena_printf(&a, "%u", maps->items[i].container);
		argv[n++] = arena_printf(&a, "%u", maps->items[i].host);
		argv[n++] = arena_printf(&a, "%u", maps->items[i].size);
	}
	return process_run(argv, NULL, &output, HELPER_OUTPUT_MAX, HELPER_MS, err);
}

static int map_one(pid_t pid, const char *file, const char *helper,
	const struct runtime_id_maps *maps, uid_t own, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	bool single = maps->count == 1 && maps->items[0].size == 1 && maps->items[0].host == own;
	map_text(maps, &text);
	if (!text.data)
		return error_set(err, ERROR_INVALID, "a user namespace needs ids to be mapped");
	if (geteuid() != 0 && !single)
		return map_by_helper(helper, pid, maps, err);
	if (write_proc(pid, file, text.data) < 0)
		return error_set_errno(err, errno, "map the container's ids (%s)", file);
	return 0;
}

int user_namespace_map(pid_t pid, const struct runtime_id_maps *uids,
	const struct runtime_id_maps *gids, struct error *err)
{
	// An ordinary user who maps his own group must give up setgroups(2) first, by which he
	// could leave groups that keep him from files (user_namespaces(7)).
	bool single = gids->count == 1 && gids->items[0].size == 1;
	if (geteuid() != 0 && single && write_proc(pid, "setgroups", "deny") < 0)
		return error_set_errno(err, errno, "forbid setgroups in the container");
	if (map_one(pid, "gid_map", "newgidmap", gids, getegid(), err) < 0)
		return -1;
	return map_one(pid, "uid_map", "newuidmap", uids, geteuid(), err);
}

static int open_namespace(pid_t pid, struct error *err)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? error_set_errno(err, errno, "open a user namespace") : fd;
}

// A child in a namespace of its own, which waits: its end of `pair` becomes readable when its ids
// are mapped, and is at its end when it shall leave.
static int start_child(const struct runtime_id_maps *uids, const struct runtime_id_maps *gids,
	void (*child)(int socket, void *data), void *data, struct process *p, int *socket,
	struct error *err)
{
	int pair[2];
	if (message_pair(pair, err) < 0)
		return -1;
	cleanup_fd int ours = pair[0], theirs = pair[1];
	struct clone_args args = {.flags = CLONE_NEWUSER | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&p->pidfd,
		.exit_signal = SIGCHLD};
	p->pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (p->pid < 0)
		return error_set_errno(err, errno, "make a user namespace%s",
			errno == ENOSPC ? " (the limit is in /proc/sys/user/max_user_namespaces)"
					: "");
	if (p->pid == 0) {
		close(ours);
		child(theirs, data);
		_exit(0);
	}
	if (user_namespace_map(p->pid, uids, gids, err) < 0)
		return -1;
	*socket = steal_fd(&ours);
	return 0;
}

static void wait_for_end(int socket, void *data)
{
	char byte;
	(void)data;
	while (read(socket, &byte, 1) < 0 && errno == EINTR)
		;
}

int user_namespace_new(
	const struct runtime_id_maps *uids, const struct runtime_id_maps *gids, struct error *err)
{
	cleanup_process struct process p = {.pidfd = -1};
	cleanup_fd int socket = -1;
	if (start_child(uids, gids, wait_for_end, NULL, &p, &socket, err) < 0)
		return -1;
	return open_namespace(p.pid, err);
}

struct errand {
	int (*fn)(void *data, struct error *err);
	void *data;
};

static void run_errand(int socket, void *data)
{
	const struct errand *e = data;
	struct error err = {0}, ignored;
	char byte;
	if (read(socket, &byte, 1) != 1)
		return;
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		error_set_errno(&err, errno, "become the container's root");
	else
		e->fn(e->data, &err);
	message_send(socket, &err, sizeof(err), NULL, 0, &ignored);
}

int user_namespace_run(const struct runtime_id_maps *uids, const struct runtime_id_maps *gids,
	int (*fn)(void *data, struct error *err), void *data, struct error *err)
{
	struct errand e = {fn, data};
	struct error result;
	cleanup_process struct process p = {.pidfd = -1};
	cleanup_fd int socket = -1;
	if (start_child(uids, gids, run_errand, &e, &p, &socket, err) < 0 ||
		message_send(socket, "", 1, NULL, 0, err) < 0)
		return -1;
	ssize_t n = message_receive(socket, &result, sizeof(result), NULL, 0, false, err);
	if (n < 0)
		return -1;
	if (n != sizeof(result))
		return error_set(err, ERROR_SYSTEM, "a process in a user namespace was killed");
	if (result.kind == ERROR_NONE)
		return 0;
	*err = result;
	return -1;
}

bool user_namespace_outside(const struct runtime_id_maps *maps, uint32_t id, uint32_t *outside)
{
	for (size_t i = 0; i < maps->count; i++) {
		const struct runtime_id_map *m = &maps->items[i];
		if (id >= m->container && id - m->container < m->size) {
			*outside = m->host + (id - m->container);
			return true;
		}
	}
	return false;
}

int user_namespace_lease(int run_fd, uint32_t first, uint32_t size, unsigned count, uint32_t *id,
	int *lock_fd, struct error *err)
{
	cleanup_fd int folder = directory_ensure(run_fd, "ids", 0700, err);
	if (folder < 0)
		return -1;
	for (unsigned i = 0; i < count; i++) {
		char name[16];
		snprintf(name, sizeof(name), "%u", i);
		cleanup_fd int fd =
			openat(folder, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			return error_set_errno(err, errno, "open ids/%s", name);
		int got = file_lock(fd, LOCK_EX | LOCK_NB, name, err);
		if (got < 0)
			return -1;
		if (got == 0) {
			*id = first + i * size;
			*lock_fd = steal_fd(&fd);
			return 0;
		}
	}
	return error_set(err, ERROR_LIMIT,
		"no user ids are left for a container: all %u ranges are in use", count);
}

// name:first:count, the first line of ours.
static bool find_range(
	const char *path, const char *login, uid_t uid, uint32_t *first, uint32_t *size)
{
	cleanup_buffer struct buffer text = {0};
	struct error ignored;
	char number[16];
	snprintf(number, sizeof(number), "%u", uid);
	if (file_read(AT_FDCWD, path, SUBID_BYTES_MAX, &text, &ignored) < 0 || !text.data)
		return false;
	for (const char *line = text.data; *line;) {
		size_t length = strcspn(line, "\n"), name = strcspn(line, ":\n");
		const char *start = line + name + 1, *end = line + length;
		const char *colon =
			name < length ? memchr(start, ':', (size_t)(end - start)) : NULL;
		uint64_t from, count;
		bool ours = (name == strlen(number) && memcmp(line, number, name) == 0) ||
			    (login && name == strlen(login) && memcmp(line, login, name) == 0);
		if (ours && colon && parse_u64_n(start, (size_t)(colon - start), &from) &&
			parse_u64_n(colon + 1, (size_t)(end - colon - 1), &count) && count > 0 &&
			from + count <= UINT32_MAX) {
			*first = (uint32_t)from;
			*size = (uint32_t)count;
			return true;
		}
		line += length + (line[length] == '\n');
	}
	return false;
}

static bool is_installed(const char *program)
{
	cleanup_free char *path = xasprintf("/usr/bin/%s", program);
	return access(path, X_OK) == 0;
}

static void own_map(struct arena *a, struct runtime_id_maps *maps, uid_t own, bool more,
	uint32_t first, uint32_t size)
{
	*maps = (struct runtime_id_maps){arena_array(a, struct runtime_id_map, 2), 1 + more};
	maps->items[0] = (struct runtime_id_map){0, own, 1};
	if (more)
		maps->items[1] =
			(struct runtime_id_map){1, first, size < UINT16_MAX ? size : UINT16_MAX};
}

void user_namespace_own(struct arena *a, struct runtime_id_maps *uids, struct runtime_id_maps *gids)
{
	uint32_t uid_first = 0, uid_size = 0, gid_first = 0, gid_size = 0;
	const struct passwd *user = getpwuid(geteuid());
	const char *login = user ? user->pw_name : NULL;
	bool more = is_installed("newuidmap") && is_installed("newgidmap") &&
		    find_range("/etc/subuid", login, geteuid(), &uid_first, &uid_size) &&
		    find_range("/etc/subgid", login, geteuid(), &gid_first, &gid_size);
	own_map(a, uids, geteuid(), more, uid_first, uid_size);
	own_map(a, gids, getegid(), more, gid_first, gid_size);
}
