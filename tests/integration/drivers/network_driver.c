// SPDX-License-Identifier: Apache-2.0
//
// Runs a command in a user and a network namespace of its own with a private network:
//   network_driver [--path PATH] [--raw] [--resolv FILE] [--report FILE] [--stay] COMMAND…
// --path: where pasta and slirp4netns are looked for; --raw: with CAP_NET_RAW, of all capabilities;
// --resolv: where the container's resolv.conf is written; --report: a line with the program, its
// process id, microseconds until network_start() and network_wait() returned; --stay: do not clean
// up, but wait to be killed.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/network.h"

#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct options {
	const char *path, *resolv, *report;
	bool raw, stay;
	char **command;
};

static long now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void die(const char *what)
{
	perror(what);
	_exit(125);
}

static void die_of(const struct error *err)
{
	fprintf(stderr, "network_driver: %s: %s\n", error_kind_name(err->kind), err->text);
	exit(124);
}

static void keep_raw_only(bool raw)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct set[2] = {{0}};
	unsigned bit = 1U << CAP_NET_RAW;
	// Exec as root gives what is in the bounding set, ambient or not.
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!raw || cap != CAP_NET_RAW)
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	if (raw)
		set[0].permitted = set[0].effective = bit;
	if (syscall(SYS_capset, &header, set) < 0)
		die("capset");
}

static void container(const struct options *o, int socket)
{
	char byte;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		die("unshare");
	if (write(socket, "", 1) != 1 || read(socket, &byte, 1) != 1)
		_exit(125);
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		die("become root");
	keep_raw_only(o->raw);
	execvp(o->command[0], o->command);
	die(o->command[0]);
}

static void write_file(pid_t pid, const char *name, const char *text)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

static void write_maps(pid_t pid)
{
	char text[64];
	if (geteuid() == 0) {
		write_file(pid, "uid_map", "0 100000 65536");
		write_file(pid, "gid_map", "0 100000 65536");
		return;
	}
	write_file(pid, "setgroups", "deny");
	snprintf(text, sizeof(text), "0 %u 1", geteuid());
	write_file(pid, "uid_map", text);
	snprintf(text, sizeof(text), "0 %u 1", getegid());
	write_file(pid, "gid_map", text);
}

static int open_namespace(pid_t pid, const char *name)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(path);
	return fd;
}

static void make_plan(const struct options *o, struct network_plan *plan)
{
	struct error err;
	cleanup_buffer struct buffer node = {0}, out = {0};
	if (file_read(AT_FDCWD, "/etc/resolv.conf", NETWORK_RESOLV_CONF_MAX, &node, &err) < 0)
		die_of(&err);
	buffer_putc(&node, '\n');
	// In this process only: the command is in another.
	if (o->path && setenv("PATH", o->path, 1) < 0)
		die("setenv");
	if (network_plan(node.data, plan, &err) < 0)
		die_of(&err);
	network_resolv_conf(plan, node.data, &out);
	if (o->resolv && file_write_atomic(AT_FDCWD, o->resolv, out.data, out.size, 0644, &err) < 0)
		die_of(&err);
}

static void write_report(const struct options *o, const struct network *n, long start, long ready)
{
	struct error err;
	char text[128];
	snprintf(text, sizeof(text), "%s %d %ld %ld\n", n->plan.program, (int)n->helper.pid, start,
		ready);
	if (o->report && file_write_atomic(AT_FDCWD, o->report, text, strlen(text), 0644, &err) < 0)
		die_of(&err);
}

// To the end of the container; the program is replaced if it ends before.
static int watch(const struct options *o, pid_t pid, struct network *n)
{
	struct error err = {0};
	int status = 0;
	cleanup_fd int child = (int)syscall(SYS_pidfd_open, pid, 0);
	for (;;) {
		struct pollfd p[2] = {
			{.fd = child, .events = POLLIN}, {.fd = n->helper.pidfd, .events = POLLIN}};
		if (poll(p, 2, -1) < 0)
			die("poll");
		if (p[0].revents)
			break;
		if (network_restart(n, &err) < 0)
			die_of(&err);
		write_report(o, n, 0, 0);
	}
	if (waitpid(pid, &status, 0) != pid)
		return 125;
	while (o->stay)
		pause();
	return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}

static int run(const struct options *o, pid_t pid, int socket)
{
	struct error err = {0};
	struct network_plan plan;
	cleanup_network struct network n = {0};
	char byte;
	if (read(socket, &byte, 1) != 1)
		return 125;
	write_maps(pid);
	cleanup_fd int netns = open_namespace(pid, "net"), userns = open_namespace(pid, "user");
	make_plan(o, &plan);
	long begin = now_us();
	if (network_start(&plan, netns, userns, &n, &err) < 0)
		die_of(&err);
	long started = now_us();
	if (network_wait(&n, &err) < 0)
		die_of(&err);
	write_report(o, &n, started - begin, now_us() - begin);
	return write(socket, "", 1) == 1 ? watch(o, pid, &n) : 125;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"path", required_argument, NULL, 'p'},
		{"raw", no_argument, NULL, 'w'}, {"resolv", required_argument, NULL, 'v'},
		{"report", required_argument, NULL, 'r'}, {"stay", no_argument, NULL, 's'}, {0}};
	struct options o = {0};
	int c, sockets[2];
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			o.path = optarg;
			break;
		case 'w':
			o.raw = true;
			break;
		case 'v':
			o.resolv = optarg;
			break;
		case 'r':
			o.report = optarg;
			break;
		case 's':
			o.stay = true;
			break;
		default:
			return 2;
		}
	}
	o.command = argv + optind;
	if (!*o.command || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
		return 2;
	pid_t pid = fork();
	if (pid == 0) {
		close(sockets[0]);
		container(&o, sockets[1]);
	}
	close(sockets[1]);
	return pid < 0 ? 125 : run(&o, pid, sockets[0]);
}
