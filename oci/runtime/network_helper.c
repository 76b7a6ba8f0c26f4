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
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

const char network_tun[] = "/dev/net/tun";

static void launch_release(struct network_launch *l)
{
	const int fds[] = {l->filter_fd, l->report[0], l->report[1], l->go[0], l->go[1],
		l->stderr_pipe[0], l->stderr_pipe[1]};
	for (size_t i = 0; i < array_size(fds); i++)
		close_fdp(&(int){fds[i]});
	free(l->program);
}
#define cleanup_launch __attribute__((cleanup(launch_release)))

static int start_child(const struct network_launch *l, void (*child)(const struct network_launch *),
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
	return n->userns_fd >= 0 && geteuid() == 0 && stat(network_tun, &st) == 0 &&
	       (st.st_mode & 0006) != 0006;
}

static int open_pipes(struct network_launch *l, struct error *err)
{
	if (pipe2(l->report, O_CLOEXEC) < 0 || pipe2(l->go, O_CLOEXEC) < 0 ||
		pipe2(l->stderr_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_set_errno(err, errno, "pipe");
	return 0;
}

static int start(struct network *n, struct error *err)
{
	cleanup_launch struct network_launch l = {.n = n,
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
	if (open_pipes(&l, err) < 0 ||
		start_child(&l, network_interface_child, &n->interface, err) < 0)
		return -1;
	snprintf(l.netns, sizeof(l.netns), "/proc/%d/ns/net", (int)n->interface.pid);
	network_arguments(&n->plan, l.netns, l.argv);
	if (start_child(&l, network_program_child, &n->helper, err) < 0)
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
