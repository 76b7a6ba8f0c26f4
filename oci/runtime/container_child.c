// SPDX-License-Identifier: Apache-2.0
//
// From clone to the program: a fork of a process with one thread, so its memory is sound and it may
// allocate. Failures go to the parent as messages (container_internal.h).
#include "base/file.h"
#include "base/message.h"
#include "base/weaken.h"
#include "oci/runtime/container_internal.h"
#include "oci/runtime/network.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STATUS_FD = 3, ABOVE_FD = 16 };

static void __attribute__((noreturn))
give_up(const struct container_launch *l, const struct error *why)
{
	struct error ignored;
	sync_send(l->sync_fd, SYNC_ERROR, 0, why, &ignored);
	_exit(127);
}

void container_reset_signals(void)
{
	const struct sigaction plain = {.sa_handler = SIG_DFL};
	for (int i = 1; i < NSIG; i++)
		sigaction(i, &plain, NULL); // refused for some; they cannot be changed
}

// Wait for the parent; returns our id where it is.
static pid_t await(const struct container_launch *l)
{
	struct sync_message m;
	struct error err = {0};
	int got = sync_receive(l->sync_fd, &m, &err);
	if (got < 0)
		give_up(l, &err);
	if (got == 0) // the parent is gone
		_exit(127);
	return m.pid;
}

static int make_mounts_private(const struct runtime_spec *spec, struct error *err)
{
	const char *wanted = spec->rootfs_propagation;
	// A slave sees what is mounted on the node later; nothing goes the other way.
	bool slave = wanted && (strcmp(wanted, "slave") == 0 || strcmp(wanted, "rslave") == 0);
	if (mount(NULL, "/", NULL, MS_REC | (slave ? MS_SLAVE : MS_PRIVATE), NULL) < 0)
		return error_set_errno(err, errno, "make the mounts private");
	return 0;
}

// The new root stands on "/" until it takes its place: there it covers nothing, since we have the
// old one as our root already, and /proc and /dev of the node are still to be read.
static int place_root(const struct container_launch *l, struct error *err)
{
	const struct container_options *o = l->o;
	static const struct mount_words words = {.bind = true, .recursive = true};
	cleanup_fd int own = -1;
	int root = l->root_fd;
	if (root < 0 && o->mount_root)
		root = own = o->mount_root(o->data, err);
	else if (root < 0) {
		const char *path = o->spec->root_path;
		cleanup_free char *joined =
			*path == '/' ? xstrdup(path) : path_join(o->bundle, path);
		root = own = container_clone_tree(AT_FDCWD, joined, &words, -1, err);
	}
	if (root < 0)
		return error_context(err, "root file system");
	if (move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_set_errno(err, errno, "place the root file system");
	// Devices work in /dev alone.
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NODEV};
	if (mount_setattr(root, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return error_set_errno(err, errno, "restrict the root file system%s",
			errno == ENOSYS ? " (Linux 5.12 or newer is needed)" : "");
	int fd = fcntl(root, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? error_set_errno(err, errno, "root file system") : fd;
}

static int set_propagation(const struct runtime_spec *spec, struct error *err)
{
	const char *wanted = spec->rootfs_propagation;
	if (!wanted)
		return 0;
	const char *base = wanted + (wanted[0] == 'r');
	unsigned long flags = strcmp(base, "shared") == 0	? MS_SHARED
			      : strcmp(base, "unbindable") == 0 ? MS_UNBINDABLE
								: 0;
	if (flags && mount(NULL, "/", NULL, flags | (wanted[0] == 'r' ? MS_REC : 0), NULL) < 0)
		return error_set_errno(err, errno, "rootfsPropagation %s", wanted);
	return 0;
}

// pivot_root(2), "pivot_root(".", ".")": the old root ends up over the new one and is let go.
static int leave_node(int root_fd, const struct runtime_spec *spec, struct error *err)
{
	if (fchdir(root_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return error_set_errno(err, errno, "change the root");
	if (set_propagation(spec, err) < 0)
		return -1;
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
	if (spec->root_read_only && mount_setattr(AT_FDCWD, "/", 0, &attr, sizeof(attr)) < 0)
		return error_set_errno(err, errno, "make the root read-only");
	return 0;
}

static int set_names(const struct runtime_spec *spec, struct error *err)
{
	if (spec->hostname && sethostname(spec->hostname, strlen(spec->hostname)) < 0)
		return error_set_errno(err, errno, "set the host name %s", spec->hostname);
	if (spec->domainname && setdomainname(spec->domainname, strlen(spec->domainname)) < 0)
		return error_set_errno(err, errno, "set the domain name %s", spec->domainname);
	return 0;
}

static int run_hooks(const struct container_launch *l, pid_t pid, int root_fd, struct error *err)
{
	const struct container_options *o = l->o;
	if (!container_has_hooks(o))
		return 0;
	if (sync_send(l->sync_fd, SYNC_MOUNTED, 0, NULL, err) < 0)
		return -1;
	await(l);
	return o->hook(o->data, RUNTIME_HOOK_CREATE_CONTAINER, pid, root_fd, err);
}

// *root_fd: the container's root, open.
static int build_root(const struct container_launch *l, pid_t pid, int *root_fd, struct error *err)
{
	const struct container_options *o = l->o;
	if (make_mounts_private(o->spec, err) < 0)
		return -1;
	*root_fd = place_root(l, err);
	if (*root_fd < 0 || container_mount(*root_fd, l, err) < 0)
		return -1;
	for (size_t i = 0; i < o->file_count; i++)
		if (container_write_file(*root_fd, &o->files[i], err) < 0)
			return -1;
	cleanup_fd int cwd = container_target(*root_fd, o->spec->process.cwd, false, false, err);
	if (cwd < 0 || set_names(o->spec, err) < 0 || run_hooks(l, pid, *root_fd, err) < 0)
		return -1;
	return leave_node(*root_fd, o->spec, err);
}

// The container's root in the new user namespace: what we do from here on is his, and files that we
// make are.
static int become_root(const struct container_launch *l, struct error *err)
{
	const struct runtime_namespace *user = &l->o->spec->namespaces[RUNTIME_NAMESPACE_USER];
	if (!user->wanted)
		return 0;
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return error_set_errno(err, errno, "leave the node's groups");
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return error_set_errno(err, errno, "become the container's root (is id 0 mapped?)");
	return 0;
}

static int enter(const struct container_launch *l, struct error *err)
{
	const struct container_options *o = l->o;
	if (o->cgroup && cgroup_join(o->cgroup, err) < 0)
		return -1;
	// After the group was joined: what it is then is the root of what the namespace shows.
	if (l->new_namespaces & CLONE_NEWCGROUP && unshare(CLONE_NEWCGROUP) < 0)
		return error_set_errno(err, errno, "make a cgroup namespace");
	// Whoever has a key in our session keyring shares it with no job. Kernels without keys:
	// fine.
	syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
	if (become_root(l, err) < 0)
		return -1;
	if (l->new_namespaces & CLONE_NEWNET)
		return network_loopback_up(err);
	return 0;
}

// After the change of user, which clears both settings (prctl(2)).
static int settle(const struct container_launch *l, struct error *err)
{
	// Process 1 has our memory, and its /proc/1/exe is this program's file: neither is the
	// job's to read or to write.
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "prctl");
	if (!l->o->die_with_parent)
		return 0;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return error_set_errno(err, errno, "prctl");
	// The parent may have died before that. Its number is not visible from this PID namespace,
	// but it alone has the other end.
	struct pollfd other = {.fd = l->sync_fd};
	if (poll(&other, 1, 0) > 0 && other.revents & (POLLHUP | POLLERR))
		_exit(127);
	return 0;
}

int container_take_stdio(
	int root_fd, const int given[3], int above, int taken[3], struct error *err)
{
	for (int i = 0; i < 3; i++) {
		cleanup_fd int null = -1;
		int from = given[i];
		if (from < 0)
			from = null = openat(
				root_fd, "dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
		taken[i] = from < 0 ? -1 : fcntl(from, F_DUPFD_CLOEXEC, above);
		if (taken[i] < 0)
			return error_set_errno(err, errno, "descriptor %d of the program", i);
	}
	return 0;
}

// The descriptor 3 is the only one that our init keeps besides /dev/null.
static void keep_status_only(int status_fd, int null)
{
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	dup2(status_fd, STATUS_FD);
	close_range(STATUS_FD + 1, ~0U, 0);
}

struct last_step {
	const struct container_launch *l;
	pid_t pid;
};

// Everything is ready. Opening the FIFO waits for `start`.
static int open_fifo(const struct container_launch *l, int at, struct error *err)
{
	char name[64];
	snprintf(name, sizeof(name), "/proc/self/fd/%d", l->o->start_fifo);
	int fd = open(name, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "open the start FIFO");
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, at);
	close(fd);
	return moved;
}

static int start_hook(void *data, struct error *err)
{
	const struct last_step *s = data;
	const struct container_options *o = s->l->o;
	if (!o->hook || !o->spec->hooks[RUNTIME_HOOK_START_CONTAINER].count)
		return 0;
	return o->hook(o->data, RUNTIME_HOOK_START_CONTAINER, s->pid, -1, err);
}

static void __attribute__((noreturn))
become_program(const struct container_launch *l, const int stdio[3], pid_t pid)
{
	const struct container_options *o = l->o;
	int above = 3 + o->preserve_fds;
	struct error err = {0};
	struct container_program p = {
		.process = &o->spec->process,
		.seccomp = &l->seccomp,
		.names = o->programs,
		.stdio = {stdio[0], stdio[1], stdio[2]},
		.terminal = o->spec->process.terminal,
		.preserve_fds = o->preserve_fds,
		.last = start_hook,
		.data = &(struct last_step){.l = l, .pid = pid},
		.report_plain = o->start_fifo >= 0,
	};
	// Engines want to hear at `create` what cannot be started.
	if (o->start_fifo >= 0 && container_check_program(&o->spec->process, o->programs, &err) < 0)
		give_up(l, &err);
	if (sync_send(l->sync_fd, SYNC_READY, 0, NULL, &err) < 0)
		_exit(127);
	if (o->start_fifo < 0) {
		await(l);
		p.report_fd = fcntl(l->sync_fd, F_DUPFD_CLOEXEC, above);
	} else {
		p.report_fd = open_fifo(l, above, &err);
	}
	if (p.report_fd < 0)
		_exit(127);
	container_become(&p);
}

static int prepare_stdio(
	const struct container_launch *l, int root_fd, int stdio[3], struct error *err)
{
	const struct container_options *o = l->o;
	const struct runtime_process *p = &o->spec->process;
	int above = ABOVE_FD + o->preserve_fds;
	if (!p->terminal)
		return container_take_stdio(root_fd, o->stdio, above, stdio, err);
	cleanup_fd int slave = container_terminal(root_fd, p, o->console_socket, true, err);
	const int all[3] = {slave, slave, slave};
	return slave < 0 ? -1 : container_take_stdio(root_fd, all, above, stdio, err);
}

void container_child(const struct container_launch *l)
{
	struct error err = {0};
	int stdio[3], root_fd = -1;
	container_reset_signals();
	pid_t pid = await(l);
	setsid();
	umask(022);
	if (enter(l, &err) < 0 || build_root(l, pid, &root_fd, &err) < 0 ||
		prepare_stdio(l, root_fd, stdio, &err) < 0 ||
		container_drop(&l->o->spec->process, &l->seccomp, &err) < 0 || settle(l, &err) < 0)
		give_up(l, &err);
	if (!l->o->init)
		become_program(l, stdio, pid);
	cleanup_fd int null = openat(root_fd, "dev/null", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	pid_t program = null < 0 ? -1 : fork();
	if (program < 0) {
		error_set_errno(&err, errno, "fork");
		give_up(l, &err);
	}
	if (program == 0)
		become_program(l, stdio, pid);
	keep_status_only(l->status_fd, null);
	container_init(program, STATUS_FD);
}
