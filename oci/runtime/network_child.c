// SPDX-License-Identifier: Apache-2.0
//
// What the two children of a private network do (network_helper.c), between fork and exec or the
// end: system calls only.
#include "base/file.h"
#include "base/memory.h"
#include "oci/runtime/network_internal.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { READY_MS = 10000, TUN_MAJOR = 10, TUN_MINOR = 200 };

static bool is_one_of(unsigned fd, const int *kept, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (kept[i] >= 0 && (unsigned)kept[i] == fd)
			return true;
	return false;
}

// Close all but these: a copy of a pipe's end in a child would keep its reader waiting.
static void close_others(const int *kept, size_t count)
{
	unsigned from = 0, last = 0;
	for (size_t i = 0; i < count; i++)
		if (kept[i] >= 0 && (unsigned)kept[i] > last)
			last = (unsigned)kept[i];
	for (; from <= last; from++)
		if (!is_one_of(from, kept, count))
			close((int)from);
	// ENOSYS before Linux 5.9: then the rest stays open until exec or the end.
	syscall(SYS_close_range, from, ~0U, 0U);
}

// Out of the terminal's reach: its signals mean the job, not its network.
static void leave_group(void)
{
	const struct sigaction plain = {.sa_handler = SIG_DFL};
	sigset_t none;
	for (int i = 1; i < NSIG; i++)
		sigaction(i, &plain, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
}

// Become the root of the container's user namespace, which is nobody outside.
static int enter_user_namespace(int fd, struct error *err)
{
	if (fd < 0)
		return 0;
	if (setns(fd, CLONE_NEWUSER) < 0)
		return error_set_errno(err, errno, "enter the container's user namespace");
	// EPERM: it is of somebody who may not change groups, and has but one
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return error_set_errno(err, errno, "drop groups");
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return error_set_errno(err, errno, "become the container's root");
	return 0;
}

// Last, as a change of user takes it back.
static int tie_to_parent(pid_t parent, struct error *err)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "prctl");
	pid_t now = getppid(); // 0: outside of our PID namespace
	if (now != parent && now != 0)
		_exit(127);
	return 0;
}

static int open_tun(struct error *err)
{
	int fd = open(network_tun, O_RDWR | O_CLOEXEC);
	return fd < 0 ? error_set_errno(
				err, errno, "open %s, which a private network needs", network_tun)
		      : fd;
}

// The device belongs to the network namespace in which it was opened. Where we are root of the node
// it is opened as such, because the container's root may not on nodes where it is mode 0600.
static int enter_and_open(const struct network *n, struct error *err)
{
	bool entered = setns(n->netns_fd, CLONE_NEWNET) == 0;
	cleanup_fd int fd = entered ? open_tun(err) : -1;
	if ((entered && fd < 0) || enter_user_namespace(n->userns_fd, err) < 0)
		return -1;
	if (!entered && setns(n->netns_fd, CLONE_NEWNET) < 0)
		return error_set_errno(err, errno, "enter the container's network namespace");
	if (fd < 0)
		fd = open_tun(err);
	return fd < 0 ? -1 : steal_fd(&fd);
}

// The program may look at our namespaces (ptrace(2), "access mode checking") if we have no more
// capabilities than it and are dumpable.
static int give_up_capabilities(struct error *err)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct none[2] = {{0}};
	if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "drop capabilities");
	return 0;
}

static int interface_steps(const struct network_launch *l, struct error *err)
{
	unsigned index = 0;
	int link = -1;
	int tun = enter_and_open(l->n, err);
	if (tun < 0 ||
		network_interface_make(&l->n->plan, tun, l->filter_fd, &link, &index, err) < 0 ||
		give_up_capabilities(err) < 0 || tie_to_parent(l->parent, err) < 0)
		return -1;
	if (write(l->go[1], "", 1) != 1)
		return error_set_errno(err, errno, "go on");
	return network_interface_wait(link, index, READY_MS, err);
}

void network_interface_child(const struct network_launch *l)
{
	struct error err = {0};
	const int kept[] = {l->n->netns_fd, l->n->userns_fd, l->filter_fd, l->report[1], l->go[1]};
	close_others(kept, array_size(kept));
	leave_group();
	interface_steps(l, &err);
	ssize_t written = write(l->report[1], &err, sizeof(err));
	_exit(written != sizeof(err));
}

// A device of our own that the program can open, in a mount namespace of its own.
static int make_private_tun(struct error *err)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
		mount("tmpfs", "/dev/net", "tmpfs", MS_NOSUID | MS_NOEXEC,
			"mode=755,nr_inodes=3,size=4k") < 0 ||
		mknod(network_tun, S_IFCHR | 0666, makedev(TUN_MAJOR, TUN_MINOR)) < 0 ||
		chmod(network_tun, 0666) < 0)
		return error_set_errno(err, errno, "make %s for the container's root", network_tun);
	return 0;
}

static int place_descriptors(const struct network_launch *l, struct error *err)
{
	// Without O_CLOEXEC: it may be one of these three already. Anything above is closed.
	int null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(l->stderr_pipe[1], 2) < 0)
		return error_set_errno(err, errno, "place descriptors");
	const int standard[] = {0, 1, 2};
	close_others(standard, array_size(standard));
	return 0;
}

static int program_steps(const struct network_launch *l, struct error *err)
{
	static const char *const environment[] = {"PATH=/usr/bin:/bin", NULL};
	char byte;
	if ((l->private_tun && make_private_tun(err) < 0) ||
		enter_user_namespace(l->n->userns_fd, err) < 0)
		return -1;
	if (tie_to_parent(l->parent, err) < 0)
		return -1;
	// 0: there is no interface, and why is in the other's report
	if (read(l->go[0], &byte, 1) != 1)
		_exit(127);
	if (place_descriptors(l, err) < 0)
		return -1;
	execve(l->program, (char *const *)l->argv, (char *const *)environment);
	return error_set_errno(err, errno, "start %s", l->program);
}

void network_program_child(const struct network_launch *l)
{
	struct error err = {0};
	// Above the standard ones, where the pipe may lie if we have none of these.
	int messages = fcntl(l->stderr_pipe[1], F_DUPFD_CLOEXEC, 3);
	struct network_launch own = *l;
	own.stderr_pipe[1] = messages;
	const int kept[] = {messages, l->n->userns_fd, l->go[0]};
	close_others(kept, array_size(kept));
	leave_group();
	program_steps(&own, &err);
	// What the program would say if it were there; nobody can be told if this fails.
	ssize_t ignored = write(messages >= 0 ? messages : 2, err.text, strlen(err.text));
	_exit(ignored ? 127 : 126);
}
