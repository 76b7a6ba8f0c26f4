// SPDX-License-Identifier: Apache-2.0
//
// Mounts, namespaces and control groups.
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// argv[0]: a folder that is mounted read-only.
void probe_mount(int argc, char **argv)
{
	struct mount_attr writable = {.attr_clr = MOUNT_ATTR_RDONLY};
	const char *const fixed[] = {"/proc/sys", "/sys", "/proc/sysrq-trigger", argv[0], "/"};
	(void)argc;
	mkdir("/tmp", 0777);
	mkdir("/tmp/m", 0755);
	verdict(mount("none", "/tmp/m", "tmpfs", 0, NULL), "mount a tmpfs");
	verdict(mount("none", "/tmp/m", "proc", 0, NULL), "mount a procfs");
	verdict(mount("none", "/tmp/m", "sysfs", 0, NULL), "mount a sysfs");
	verdict(mount("none", "/tmp/m", "cgroup2", 0, NULL), "mount a cgroup2");
	verdict(mount("/", "/tmp/m", NULL, MS_BIND | MS_REC, NULL), "bind");
	verdict(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL), "make shared");
	for (size_t i = 0; i < sizeof(fixed) / sizeof(*fixed); i++) {
		verdict(mount(NULL, fixed[i], NULL, MS_REMOUNT | MS_BIND, NULL), "remount %s",
			fixed[i]);
		verdict(syscall(SYS_mount_setattr, AT_FDCWD, fixed[i], AT_RECURSIVE, &writable,
				sizeof(writable)),
			"mount_setattr %s", fixed[i]);
	}
	verdict(syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE), "open_tree");
	verdict(syscall(SYS_fsopen, "tmpfs", 0), "fsopen");
	verdict(syscall(SYS_fspick, AT_FDCWD, "/", 0), "fspick");
	verdict_strict(syscall(SYS_move_mount, -1, "", -1, "", 0), "move_mount");
	verdict_strict(syscall(SYS_pivot_root, "/tmp", "/tmp/m"), "pivot_root");
	char path[4096];
	snprintf(path, sizeof(path), "%s/written", argv[0]);
	verdict(open(path, O_WRONLY | O_CREAT, 0644), "write to %s", argv[0]);
}

void probe_unmask(int argc, char **argv)
{
	static const char *const masked[] = {"/proc/kcore", "/proc/keys", "/proc/acpi",
		"/proc/timer_list", "/proc/interrupts", "/proc/scsi", "/proc/sys", "/sys/firmware",
		"/proc", "/sys", "/dev"};
	(void)argc, (void)argv;
	for (size_t i = 0; i < sizeof(masked) / sizeof(*masked); i++) {
		verdict(umount2(masked[i], MNT_DETACH), "unmount %s", masked[i]);
		verdict(mount(masked[i], "/tmp", NULL, MS_MOVE, NULL), "move %s", masked[i]);
	}
}

static void try_join(const char *process, const char *name)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%s/ns/%s", process, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		verdict(-1, "open %s", path);
		return;
	}
	verdict_strict(setns(fd, 0), "setns %s", path);
	close(fd);
}

// In a child, so that what works for one attempt does not change the next.
static void try_unshare(const char *name, int flags)
{
	fflush(stdout);
	if (fork() == 0) {
		verdict(unshare(flags), "unshare %s", name);
		_exit(0);
	}
	wait(NULL);
	fflush(stdout);
	long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0)
		_exit(0);
	verdict(pid, "clone %s", name);
	struct clone_args args = {.flags = (uint64_t)flags, .exit_signal = SIGCHLD};
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		_exit(0);
	verdict(pid, "clone3 %s", name);
	while (wait(NULL) > 0)
		;
}

void probe_namespaces(int argc, char **argv)
{
	static const char *const names[] = {
		"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"};
	(void)argc, (void)argv;
	try_unshare("a user namespace", CLONE_NEWUSER);
	try_unshare("a user and a mount namespace", CLONE_NEWUSER | CLONE_NEWNS);
	try_unshare("a mount namespace", CLONE_NEWNS);
	try_unshare("a network namespace", CLONE_NEWNET);
	try_unshare("a cgroup namespace", CLONE_NEWCGROUP);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		try_join("1", names[i]);
		try_join("self", names[i]);
	}
}

static void write_map(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		printf("write %s: %s\n", path, strerrorname_np(errno));
	close(fd);
}

// A program of the node's that the kernel starts, as root of the node, when a group becomes empty.
static void write_agent(const char *folder)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/release_agent", folder);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0) {
		verdict(-1, "open %s", path);
		return;
	}
	static const char agent[] = "/bin/true";
	verdict(write(fd, agent, strlen(agent)), "write %s", path);
	close(fd);
}

// CVE-2022-0492: through groups that are visible, and through a mount of our own in a new user
// namespace. "stage" lines say how far it came.
void probe_cgroup(int argc, char **argv)
{
	static const char *const kinds[] = {"memory", "rdma", "cpu", "pids", "freezer"};
	glob_t found;
	(void)argc, (void)argv;
	if (glob("/sys/fs/cgroup/*", 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++)
			write_agent(found.gl_pathv[i]);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP) < 0) {
		verdict(-1, "unshare");
		return;
	}
	printf("stage unshare\n");
	write_map("/proc/self/setgroups", "deny");
	write_map("/proc/self/uid_map", "0 0 1");
	write_map("/proc/self/gid_map", "0 0 1");
	mkdir("/tmp", 0777);
	mkdir("/tmp/cgroup", 0755);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		if (mount("none", "/tmp/cgroup", "cgroup", 0, kinds[i]) < 0) {
			verdict(-1, "mount the %s groups", kinds[i]);
			continue;
		}
		printf("stage mount\n");
		write_agent("/tmp/cgroup");
	}
}

// Only the node's own root of a hierarchy has a release agent: where it is seen, so is every group
// of the node's.
void probe_groups(int argc, char **argv)
{
	glob_t found;
	(void)argc, (void)argv;
	if (glob("/sys/fs/cgroup/*/release_agent", 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++)
			escaped("the node's groups are below %s", found.gl_pathv[i]);
	else
		denied("no root of a hierarchy is seen");
}

// What is mounted at argv[0]…: "mount PATH TYPE", or "nothing at PATH".
void probe_where(int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		char line[4096], point[2048], type[64];
		bool seen = false;
		FILE *f = fopen("/proc/self/mountinfo", "re");
		while (f && fgets(line, sizeof(line), f)) {
			const char *dash = strstr(line, " - ");
			if (dash && sscanf(line, "%*s %*s %*s %*s %2047s", point) == 1 &&
				sscanf(dash, " - %63s", type) == 1 && strcmp(point, argv[i]) == 0) {
				printf("mount %s %s\n", point, type);
				seen = true;
			}
		}
		if (f)
			fclose(f);
		if (!seen)
			printf("nothing at %s\n", argv[i]);
	}
}
