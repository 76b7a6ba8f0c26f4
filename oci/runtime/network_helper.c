// SPDX-License-Identifier: Apache-2.0
//
// The processes of a private network. Two children, both forked and not started by process_start():
// they enter the container's user namespace first, and there share nothing with us any more.
//
//   the interface's   enters the network namespace, makes the interface (network_link.c), lets the
//                     other go on, waits until the program has attached to the interface, ends
//   the program's     stays in our network namespace, becomes pasta or slirp4netns, which opens
//                     /proc/<the other>/ns/net to attach to the interface
//
// That path, and not one of ours, because the program may open it: it is of the same user in the
// same user namespace, and AppArmor's profile for pasta allows /proc/<pid>/ns/net and few others.
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/runtime/network_internal.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const char tun_path[] = "/dev/net/tun";
enum { READY_MS = 10000, TUN_MAJOR = 10, TUN_MINOR = 200 };

// What the children need, made ready by us: between fork and exec they make system calls only.
struct launch {
	const struct network *n;
	pid_t parent;
	int filter_fd;	      // -1: none could be loaded
	int report[2], go[2]; // pipes; [1] is the interface's child's
	int stderr_pipe[2];
	char netns[NETWORK_NETNS_SIZE];
	const char *argv[NETWORK_ARGUMENTS_MAX];
	char *program;
	bool private_tun;
};

static void launch_release(struct launch *l)
{
	const int fds[] = {l->filter_fd, l->report[0], l->report[1], l->go[0], l->go[1],
		l->stderr_pipe[0], l->stderr_pipe[1]};
	for (size_t i = 0; i < array_size(fds); i++)
		close_fdp(&(int){fds[i]});
	free(l->program);
}
#define cleanup_launch __attribute__((cleanup(launch_release)))

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
	int fd = open(tun_path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? error_set_errno(
				err, errno, "open %s, which a private network needs", tun_path)
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

static int interface_steps(const struct launch *l, struct error *err)
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

static void __attribute__((noreturn)) interface_child(const struct launch *l)
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
		mknod(tun_path, S_IFCHR | 0666, makedev(TUN_MAJOR, TUN_MINOR)) < 0 ||
		chmod(tun_path, 0666) < 0)
		return error_set_errno(err, errno, "make %s for the container's root", tun_path);
	return 0;
}

static int place_descriptors(const struct launch *l, struct error *err)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(l->stderr_pipe[1], 2) < 0)
		return error_set_errno(err, errno, "place descriptors");
	const int standard[] = {0, 1, 2};
	close_others(standard, array_size(standard));
	return 0;
}

static int program_steps(const struct launch *l, struct error *err)
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

static void __attribute__((noreturn)) program_child(const struct launch *l)
{
	struct error err = {0};
	// Above the standard ones, where the pipe may lie if we have none of these.
	int messages = fcntl(l->stderr_pipe[1], F_DUPFD_CLOEXEC, 3);
	struct launch own = *l;
	own.stderr_pipe[1] = messages;
	const int kept[] = {messages, l->n->userns_fd, l->go[0]};
	close_others(kept, array_size(kept));
	leave_group();
	program_steps(&own, &err);
	// What the program would say if it were there; nobody can be told if this fails.
	ssize_t ignored = write(messages >= 0 ? messages : 2, err.text, strlen(err.text));
	_exit(ignored ? 127 : 126);
}

static int start_child(const struct launch *l, void (*child)(const struct launch *),
	struct process *p, struct error *err)
{
	pid_t pid = fork();
	if (pid == 0)
		child(l);
	if (pid < 0)
		return error_set_errno(err, errno, "fork");
	*p = (struct process){.pid = pid, .pidfd = (int)syscall(SYS_pidfd_open, pid, 0)};
	return p->pidfd < 0 ? error_set_errno(err, errno, "pidfd_open") : 0;
}

// Where the program's user, who is not root outside, may not open the device.
static bool needs_private_tun(const struct network *n)
{
	struct stat st;
	return n->userns_fd >= 0 && geteuid() == 0 && stat(tun_path, &st) == 0 &&
	       (st.st_mode & 0006) != 0006;
}

static int open_pipes(struct launch *l, struct error *err)
{
	if (pipe2(l->report, O_CLOEXEC) < 0 || pipe2(l->go, O_CLOEXEC) < 0 ||
		pipe2(l->stderr_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_set_errno(err, errno, "pipe");
	return 0;
}

static int start(struct network *n, struct error *err)
{
	cleanup_launch struct launch l = {.n = n,
		.parent = getpid(),
		.filter_fd = -1,
		.report = {-1, -1},
		.go = {-1, -1},
		.stderr_pipe = {-1, -1},
		.private_tun = needs_private_tun(n)};
	struct error ignored; // not root: a filter of another kind is used
	l.program = network_find_program(n->plan.program);
	if (!l.program)
		return error_set(
			err, ERROR_NOT_FOUND, "program %s is not in PATH", n->plan.program);
	l.filter_fd = network_filter_load(&ignored);
	if (open_pipes(&l, err) < 0 || start_child(&l, interface_child, &n->interface, err) < 0)
		return -1;
	snprintf(l.netns, sizeof(l.netns), "/proc/%d/ns/net", (int)n->interface.pid);
	network_arguments(&n->plan, l.netns, l.argv);
	if (start_child(&l, program_child, &n->helper, err) < 0)
		return -1;
	n->report_fd = steal_fd(&l.report[0]);
	n->stderr_fd = steal_fd(&l.stderr_pipe[0]);
	return 0;
}

static int copy_descriptor(int fd, int *copy, struct error *err)
{
	*copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return fd >= 0 && *copy < 0 ? error_set_errno(err, errno, "copy a descriptor") : 0;
}

int network_start(const struct network_plan *plan, int netns_fd, int userns_fd, struct network *n,
	struct error *err)
{
	*n = (struct network){.helper.pidfd = -1,
		.interface.pidfd = -1,
		.report_fd = -1,
		.stderr_fd = -1,
		.plan = *plan,
		.netns_fd = -1,
		.userns_fd = -1};
	if (copy_descriptor(netns_fd, &n->netns_fd, err) == 0 &&
		copy_descriptor(userns_fd, &n->userns_fd, err) == 0 && start(n, err) == 0)
		return 0;
	network_release(n);
	return error_context(err, "private network");
}

static void stop(struct network *n)
{
	process_release(&n->helper);
	process_release(&n->interface);
	close_fdp(&n->report_fd);
	close_fdp(&n->stderr_fd);
	n->report_fd = n->stderr_fd = -1;
}

void network_release(struct network *n)
{
	if (!n->plan.program) // zeroed
		return;
	stop(n);
	close_fdp(&n->netns_fd);
	close_fdp(&n->userns_fd);
	*n = (struct network){0};
}

// The last line that says something: without a system logger pasta complains of that for each line.
static void last_words(int fd, char text[static 256])
{
	char all[4096];
	ssize_t size = read(fd, all, sizeof(all) - 1);
	snprintf(text, 256, "no message");
	if (size <= 0)
		return;
	all[size] = '\0';
	for (char *line = all, *next; *line; line = next) {
		size_t n = strcspn(line, "\n");
		next = line + n + (line[n] == '\n');
		if (n && !strstr(line, "to syslog"))
			snprintf(text, 256, "%.*s", (int)n, line);
	}
}

// The helper has ended, or ends. Returns -1.
static int program_failed(struct network *n, struct error *err)
{
	char words[256], how[64];
	int status = 0;
	if (process_wait(&n->helper, &status, err) < 0)
		return -1;
	last_words(n->stderr_fd, words);
	return error_set(err, ERROR_SYSTEM, "%s %s: %s", n->plan.program,
		process_describe_status(status, how), words);
}

// 0, or -1; *program_ended tells whether another program might do.
static int wait_once(struct network *n, bool *program_ended, struct error *err)
{
	struct pollfd p[2] = {
		{.fd = n->report_fd, .events = POLLIN}, {.fd = n->helper.pidfd, .events = POLLIN}};
	*program_ended = false;
	while (poll(p, 2, -1) < 0)
		if (errno != EINTR)
			return error_set_errno(err, errno, "poll");
	if (!p[0].revents) {
		*program_ended = true;
		return program_failed(n, err);
	}
	struct error report;
	if (read(n->report_fd, &report, sizeof(report)) != sizeof(report))
		return error_set(err, ERROR_SYSTEM, "its interface's process was killed");
	process_release(&n->interface);
	if (report.kind == ERROR_NONE)
		return 0;
	*err = report;
	return -1;
}

// The interface is there and stays; making it again takes IPv6 away, which slirp4netns has not.
// Returns 0, or -1 with the second program's failure behind that of the first.
static int use_slirp(struct network *n, struct error *err)
{
	struct error second;
	bool ended;
	stop(n);
	n->plan.program = "slirp4netns";
	n->plan.ipv6 = false;
	if (start(n, &second) == 0 && wait_once(n, &ended, &second) == 0) {
		error_clear(err);
		return 0;
	}
	char first[sizeof(err->text)];
	memcpy(first, err->text, sizeof(first));
	return error_set(err, second.kind, "%.200s; %s", first, second.text);
}

int network_wait(struct network *n, struct error *err)
{
	bool ended = false;
	if (wait_once(n, &ended, err) == 0)
		return 0;
	if (ended && streq(n->plan.program, "pasta") && use_slirp(n, err) == 0)
		return 0;
	return error_context(err, "private network");
}

int network_restart(struct network *n, struct error *err)
{
	program_failed(n, err);
	if (streq(n->plan.program, "pasta") && use_slirp(n, err) == 0)
		return 0;
	return error_context(err, "private network");
}
