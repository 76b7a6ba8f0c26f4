// SPDX-License-Identifier: Apache-2.0
//
// From clone to exec: a fork of a process with one thread, so its memory is sound and it may
// allocate. A failure is written to the parent as struct error.
#include "base/file.h"
#include "oci/runtime/container_internal.h"

#include <fcntl.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STATUS_FD = 3, ABOVE_FD = 16, FILES_SOFT = 65536, FILES_HARD = 1048576 };

static void __attribute__((noreturn)) give_up(int error_fd, const struct error *err)
{
	struct error ignored;
	write_all(error_fd, err, sizeof(*err), "error", &ignored);
	_exit(127);
}

static void reset_signals(void)
{
	const struct sigaction plain = {.sa_handler = SIG_DFL};
	for (int i = 1; i < NSIG; i++)
		sigaction(i, &plain, NULL); // refused for some; they cannot be changed
}

// Mounts made here are not seen outside, and none made outside appears here. Any folder of the node
// can carry the new root for the moment until it becomes "/"; /proc exists everywhere.
static int enter_root(int root_fd, struct error *err)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_set_errno(err, errno, "make the mounts private");
	if (move_mount(root_fd, "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_set_errno(err, errno, "place the root file system");
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NODEV};
	if (mount_setattr(root_fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return error_set_errno(err, errno, "restrict the root file system%s",
			errno == ENOSYS ? " (Linux 5.12 or newer is needed)" : "");
	return 0;
}

// pivot_root(2), "pivot_root(".", ".")": the old root ends up over the new one and is let go.
static int leave_node(int root_fd, struct error *err)
{
	if (fchdir(root_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return error_set_errno(err, errno, "change the root");
	return 0;
}

static int build_root(
	const struct container_launch *l, struct container_user *user, struct error *err)
{
	const struct container_spec *spec = l->spec;
	if (enter_root(spec->rootfs_fd, err) < 0 ||
		container_user_lookup(spec->rootfs_fd, spec->user, user, err) < 0 ||
		container_mount(spec->rootfs_fd, l->plan, user, err) < 0)
		return -1;
	for (size_t i = 0; i < spec->file_count; i++)
		if (container_write_file(spec->rootfs_fd, &spec->files[i], err) < 0)
			return -1;
	cleanup_fd int cwd = container_target(spec->rootfs_fd, spec->cwd, false, false, err);
	if (cwd < 0)
		return -1;
	if (sethostname(spec->hostname, strlen(spec->hostname)) < 0)
		return error_set_errno(err, errno, "set the host name %s", spec->hostname);
	return leave_node(spec->rootfs_fd, err);
}

static void limit(int resource, rlim_t soft, rlim_t hard)
{
	struct rlimit r;
	if (getrlimit(resource, &r) < 0)
		return;
	if (r.rlim_max > hard)
		r.rlim_max = hard;
	r.rlim_cur = soft < r.rlim_max ? soft : r.rlim_max;
	setrlimit(resource, &r); // lowering is always allowed
}

static void set_defaults(void)
{
	umask(022);
	limit(RLIMIT_CORE, 0, RLIM_INFINITY);
	limit(RLIMIT_NOFILE, FILES_SOFT, FILES_HARD);
	// Whoever has a key in our session keyring shares it with no job. Kernels without keys:
	// fine.
	syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
}

// After the change of user, which clears both settings (prctl(2)).
static int settle(const struct container_launch *l, struct error *err)
{
	// Process 1 has our memory, and its /proc/1/exe is this program's file: neither is the
	// job's to read or to write.
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return error_set_errno(err, errno, "prctl");
	// The parent may have died before that. Its number is not visible from this PID namespace,
	// but it alone reads the pipe.
	struct pollfd reader = {.fd = l->error_fd, .events = POLLOUT};
	if (poll(&reader, 1, 0) > 0 && reader.revents & POLLERR)
		_exit(127);
	return 0;
}

// Closed, not only marked to close at exec: the kernel would still find them while it looks for the
// program, and an image that names "/proc/self/fd/7/../../bin/sh" as its program or in its PATH
// would get a file of the node (CVE-2024-21626). What stays is a pipe.
static void close_all_but(int kept)
{
	if (kept > 3)
		close_range(3, (unsigned)kept - 1, 0);
	close_range((unsigned)kept + 1, ~0U, 0);
}

static void __attribute__((noreturn)) become_program(
	const struct container_launch *l, const struct container_user *user, const int stdio[3])
{
	struct error err = {0};
	sigset_t none;
	sigemptyset(&none);
	setsid();
	for (int i = 0; i < 3; i++)
		if (dup2(stdio[i], i) < 0) {
			error_set_errno(&err, errno, "place descriptor %d", i);
			give_up(l->error_fd, &err);
		}
	close_all_but(l->error_fd);
	if (chdir(l->spec->cwd) < 0) {
		error_set_errno(&err, errno, "working directory %s", l->spec->cwd);
		give_up(l->error_fd, &err);
	}
	sigprocmask(SIG_SETMASK, &none, NULL);
	container_exec(l->spec, user, &err);
	give_up(l->error_fd, &err);
}

// Descriptors for the program, above all that dup2() overwrites.
static int take_stdio(const struct container_launch *l, int stdio[3], int *null, struct error *err)
{
	cleanup_fd int opened = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY);
	*null = opened < 0 ? -1 : fcntl(opened, F_DUPFD_CLOEXEC, ABOVE_FD);
	if (*null < 0)
		return error_set_errno(err, errno, "open /dev/null in the container");
	for (int i = 0; i < 3; i++) {
		int given = l->spec->stdio[i];
		stdio[i] = given < 0 ? *null : fcntl(given, F_DUPFD_CLOEXEC, ABOVE_FD);
		if (stdio[i] < 0)
			return error_set_errno(err, errno, "take descriptor %d", given);
	}
	return 0;
}

// Process 1 keeps nothing but the pipe it reports through; the program's end of a pipe, above all,
// must not be held open by us.
static void keep_status_only(int status_fd, int null)
{
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	dup2(status_fd, STATUS_FD);
	close_range(STATUS_FD + 1, ~0U, 0);
}

void container_child(const struct container_launch *l)
{
	struct container_user user;
	struct error err = {0};
	int stdio[3], null;
	setsid();
	reset_signals();
	set_defaults();
	if (build_root(l, &user, &err) < 0 || take_stdio(l, stdio, &null, &err) < 0 ||
		container_drop(&user, &err) < 0 || settle(l, &err) < 0)
		give_up(l->error_fd, &err);
	pid_t program = fork();
	if (program < 0) {
		error_set_errno(&err, errno, "fork");
		give_up(l->error_fd, &err);
	}
	if (program == 0)
		become_program(l, &user, stdio);
	keep_status_only(l->status_fd, null);
	container_init(program, STATUS_FD);
}
