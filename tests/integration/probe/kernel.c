// SPDX-License-Identifier: Apache-2.0
//
// The kernel itself: its modules, log, keys, settings, devices.
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/bpf.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

void probe_modules(int argc, char **argv)
{
	(void)argc, (void)argv;
	const struct timespec now = {.tv_sec = 1};
	verdict_strict(syscall(SYS_init_module, NULL, 0, ""), "init_module");
	verdict_strict(syscall(SYS_finit_module, -1, "", 0), "finit_module");
	verdict_strict(syscall(SYS_delete_module, "no_such_module", 0), "delete_module");
	verdict_strict(syscall(SYS_kexec_load, 0, 1, NULL, ~0UL), "kexec_load");
	verdict_strict(syscall(SYS_kexec_file_load, -1, -1, 0, NULL, ~0UL), "kexec_file_load");
	verdict_strict(syscall(SYS_reboot, 0, 0, 0, NULL), "reboot");
	verdict_strict(syscall(SYS_swapon, "", 0), "swapon");
	verdict_strict(syscall(SYS_acct, ""), "acct");
	verdict_strict(syscall(SYS_quotactl, 0, "", 0, NULL), "quotactl");
	verdict_strict(syscall(SYS_clock_settime, CLOCK_REALTIME, &now), "clock_settime");
	verdict_strict(syscall(SYS_settimeofday, &now, NULL), "settimeofday");
	verdict_strict(syscall(SYS_sethostname, "x", 1), "sethostname");
	verdict_strict(syscall(SYS_iopl, 3), "iopl");
	verdict_strict(syscall(SYS_ioperm, 0x80, 1, 1), "ioperm");
}

void probe_bpf(int argc, char **argv)
{
	(void)argc, (void)argv;
	static const char license[] = "GPL";
	struct bpf_insn code[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K}, {.code = BPF_JMP | BPF_EXIT}};
	union bpf_attr program = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
		.insns = (__u64)(uintptr_t)code,
		.insn_cnt = 2,
		.license = (__u64)(uintptr_t)license};
	union bpf_attr map = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
	struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof(event)};
	char ring[120] = {0};
	verdict_strict(
		syscall(SYS_bpf, BPF_PROG_LOAD, &program, sizeof(program)), "load a program");
	verdict_strict(syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof(map)), "make a map");
	verdict_strict(syscall(SYS_perf_event_open, &event, -1, 0, -1, 0), "perf_event_open");
	verdict_strict(syscall(SYS_userfaultfd, 0), "userfaultfd");
	verdict_strict(syscall(SYS_io_uring_setup, 4, ring), "io_uring_setup");
}

static void try_node(const char *path, mode_t type, unsigned major, unsigned minor)
{
	unlink(path);
	if (mknod(path, type | 0666, makedev(major, minor)) < 0) {
		verdict(-1, "make the device %u:%u as %s", major, minor, path);
		return;
	}
	int fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	verdict(fd, "open the device %u:%u as %s", major, minor, path);
	if (fd >= 0)
		close(fd);
	unlink(path);
}

void probe_log(int argc, char **argv)
{
	enum { READ_ALL = 3, SIZE_BUFFER = 10 };
	char text[256];
	(void)argc, (void)argv;
	verdict_strict(klogctl(READ_ALL, text, sizeof(text)), "read the kernel's log");
	verdict_strict(klogctl(SIZE_BUFFER, NULL, 0), "size of the kernel's log");
	verdict(open("/dev/kmsg", O_RDWR | O_NONBLOCK | O_CLOEXEC), "open /dev/kmsg");
	verdict(open("/proc/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC), "open /proc/kmsg");
	mkdir("/tmp", 0777);
	try_node("/tmp/kmsg", S_IFCHR, 1, 11);
}

void probe_keys(int argc, char **argv)
{
	(void)argc, (void)argv;
	static const int rings[] = {
		KEY_SPEC_SESSION_KEYRING, KEY_SPEC_USER_KEYRING, KEY_SPEC_USER_SESSION_KEYRING};
	char text[256];
	for (size_t i = 0; i < sizeof(rings) / sizeof(*rings); i++) {
		verdict_strict(syscall(SYS_keyctl, KEYCTL_READ, rings[i], text, sizeof(text)),
			"read keyring %d", rings[i]);
		verdict_strict(syscall(SYS_add_key, "user", "stoker-probe", "x", 1, rings[i]),
			"add a key to keyring %d", rings[i]);
	}
	verdict_strict(syscall(SYS_keyctl, KEYCTL_GET_PERSISTENT, -1, KEY_SPEC_PROCESS_KEYRING),
		"the persistent keyring");
	verdict_strict(syscall(SYS_request_key, "user", "stoker-canary", NULL, 0), "request a key");
}

static size_t refused, opened;

static int try_writing(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)at;
	if (kind != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		refused++;
		return 0;
	}
	close(fd);
	opened++;
	escaped("%s can be opened for writing", path);
	return opened > 20; // that is enough to know
}

// Every file of the kernel's that is not a process's own. Opening changes nothing.
void probe_settings(int argc, char **argv)
{
	static const char *const trees[] = {"/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs",
		"/proc/acpi", "/proc/scsi", "/proc/driver", "/proc/tty", "/proc/asound",
		"/sys/kernel", "/sys/class", "/sys/fs", "/sys/module", "/sys/power", "/sys/block",
		"/sys/bus", "/sys/devices"};
	static const char *const files[] = {"/proc/sysrq-trigger", "/proc/mtrr",
		"/proc/latency_stats", "/proc/swaps", "/proc/sched_debug", "/proc/kmem",
		"/proc/kpageflags"};
	enum { DESCRIPTORS = 16 };
	(void)argc, (void)argv;
	for (size_t i = 0; i < sizeof(trees) / sizeof(*trees); i++) {
		refused = opened = 0;
		nftw(trees[i], try_writing, DESCRIPTORS, FTW_PHYS);
		if (!opened)
			denied("%zu files of %s", refused, trees[i]);
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
		verdict(open(files[i], O_WRONLY | O_CLOEXEC), "open %s for writing", files[i]);
	verdict(mkdir("/sys/fs/cgroup/stoker-probe", 0755), "make a control group");
	verdict(open("/proc/sys/kernel/probe", O_WRONLY | O_CREAT, 0644), "make a setting");
}

// What tells of the node: masked files are empty, masked folders too.
void probe_secrets(int argc, char **argv)
{
	static const char *const files[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list",
		"/proc/interrupts", "/proc/sched_debug", "/proc/latency_stats", "/proc/kpageflags",
		"/proc/kpagecount", "/proc/vmallocinfo", "/sys/firmware/acpi/tables/DSDT",
		"/sys/firmware/dmi/tables/DMI", "/proc/acpi/wakeup", "/proc/asound/version"};
	char text[64];
	(void)argc, (void)argv;
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		int fd = open(files[i], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
		if (n == 0)
			denied("%s is empty", files[i]);
		else
			verdict(n, "read %s", files[i]);
		close(fd);
	}
	// Addresses of the kernel are hidden.
	FILE *f = fopen("/proc/kallsyms", "re");
	if (f && fgets(text, sizeof(text), f) && strtoul(text, NULL, 16))
		escaped("/proc/kallsyms tells addresses");
	else
		denied("/proc/kallsyms tells no addresses");
	if (f)
		fclose(f);
}

static int judge_device(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	const dev_t usual[] = {makedev(1, 3), makedev(1, 5), makedev(1, 7), makedev(1, 8),
		makedev(1, 9), makedev(5, 0), makedev(5, 2)};
	(void)kind, (void)at;
	if (!S_ISCHR(st->st_mode) && !S_ISBLK(st->st_mode))
		return 0;
	for (size_t i = 0; i < sizeof(usual) / sizeof(*usual); i++)
		if (S_ISCHR(st->st_mode) && st->st_rdev == usual[i])
			return 0;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	verdict(fd, "open %s, %u:%u", path, major(st->st_rdev), minor(st->st_rdev));
	if (fd >= 0)
		close(fd);
	return 0;
}

// argv[0]: "MAJOR:MINOR" of the disk that the node's root is on.
void probe_devices(int argc, char **argv)
{
	static const char *const folders[] = {"/tmp", "/dev", "/dev/shm", "/stoker/run/outputs"};
	char path[64], *minor = NULL;
	unsigned disk = (unsigned)strtoul(argv[0], &minor, 10);
	unsigned part = (unsigned)number(minor + 1);
	enum { DESCRIPTORS = 16 };
	(void)argc;
	mkdir("/tmp", 0777);
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		snprintf(path, sizeof(path), "%s/disk", folders[i]);
		try_node(path, S_IFBLK, disk, part);
		snprintf(path, sizeof(path), "%s/mem", folders[i]);
		try_node(path, S_IFCHR, 1, 1);
		snprintf(path, sizeof(path), "%s/fuse", folders[i]);
		try_node(path, S_IFCHR, 10, 229);
	}
	nftw("/dev", judge_device, DESCRIPTORS, FTW_PHYS);
}

// Typing for others: into a terminal of our own, where the kernel has no objection itself.
void probe_typing(int argc, char **argv)
{
	(void)argc, (void)argv;
	char linux_request = 2; // as gpm pastes
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0 || unlockpt(master) < 0) {
		escaped("no terminal to try it on");
		return;
	}
	int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	setsid();
	if (ioctl(slave, TIOCSCTTY, 1) < 0)
		printf("no controlling terminal: %s\n", strerrorname_np(errno));
	verdict(syscall(SYS_ioctl, slave, TIOCSTI, "x"), "TIOCSTI");
	verdict(syscall(SYS_ioctl, slave, TIOCSTI | 1UL << 32, "x"), "TIOCSTI and a high bit");
	verdict_strict(syscall(SYS_ioctl, slave, TIOCLINUX, &linux_request), "TIOCLINUX");
	verdict_strict(syscall(SYS_ioctl, 0, TIOCSTI, "x"), "TIOCSTI on stdin");
}
