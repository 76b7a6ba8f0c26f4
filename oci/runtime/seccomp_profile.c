// SPDX-License-Identifier: Apache-2.0
//
// The profile of a job as data. What is in no table answers ENOSYS, as on a kernel that does not
// have the call: C libraries then use an older one. What a program may know and ask for on purpose,
// and may not have, answers EPERM.
#include "oci/runtime/seccomp.h"

#include <assert.h>
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/socket.h>

#define CAPABILITY(name) (UINT64_C(1) << CAP_##name)

static const char *const files[] = {
	// descriptors
	"open", "openat", "openat2", "creat", "close", "close_range", "dup", "dup2", "dup3",
	"fcntl", "fcntl64", "flock", "pipe", "pipe2",
	// bytes
	"read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev",
	"pwritev2", "lseek", "_llseek", "truncate", "truncate64", "ftruncate", "ftruncate64",
	"fallocate", "sendfile", "sendfile64", "copy_file_range", "splice", "tee", "vmsplice",
	"readahead", "fadvise64", "fadvise64_64", "arm_fadvise64_64", "cachestat", "fsync",
	"fdatasync", "sync", "syncfs", "sync_file_range", "sync_file_range2", "arm_sync_file_range",
	// names
	"mkdir", "mkdirat", "mknod", "mknodat", "link", "linkat", "symlink", "symlinkat", "unlink",
	"unlinkat", "rmdir", "rename", "renameat", "renameat2", "readlink", "readlinkat",
	"getdents", "getdents64", "chdir", "fchdir", "getcwd", "name_to_handle_at",
	// what stands in an inode
	"stat", "stat64", "lstat", "lstat64", "fstat", "fstat64", "fstatat64", "newfstatat",
	"statx", "statfs", "statfs64", "fstatfs", "fstatfs64", "access", "faccessat", "faccessat2",
	"chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "chown32", "fchown", "fchown32",
	"fchownat", "lchown", "lchown32", "umask", "utime", "utimes", "utimensat",
	"utimensat_time64", "futimesat", "getxattr", "lgetxattr", "fgetxattr", "getxattrat",
	"setxattr", "lsetxattr", "fsetxattr", "setxattrat", "listxattr", "llistxattr", "flistxattr",
	"listxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat", NULL};

static const char *const waiting[] = {"poll", "ppoll", "ppoll_time64", "select", "_newselect",
	"pselect6", "pselect6_time64", "epoll_create", "epoll_create1", "epoll_ctl",
	"epoll_ctl_old", "epoll_wait", "epoll_wait_old", "epoll_pwait", "epoll_pwait2", "eventfd",
	"eventfd2", "signalfd", "signalfd4", "inotify_init", "inotify_init1", "inotify_add_watch",
	"inotify_rm_watch", "fanotify_mark", "io_setup", "io_destroy", "io_submit", "io_cancel",
	"io_getevents", "io_pgetevents", "io_pgetevents_time64", NULL};

static const char *const memory[] = {"brk", "mmap", "mmap2", "munmap", "mremap", "mprotect",
	"madvise", "process_madvise", "mincore", "msync", "mlock", "mlock2", "mlockall", "munlock",
	"munlockall", "remap_file_pages", "memfd_create", "memfd_secret", "mseal",
	"map_shadow_stack", "pkey_alloc", "pkey_free", "pkey_mprotect", "membarrier",
	"process_mrelease",
	// Which NUMA node memory lies on. Docker asks for CAP_SYS_NICE; numeric libraries, data
	// loaders and MPI bind their memory without, and lose speed quietly where they cannot.
	"mbind", "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "migrate_pages",
	"move_pages", NULL};

// clone stands below.
static const char *const processes[] = {"fork", "vfork", "execve", "execveat", "exit", "exit_group",
	"wait4", "waitid", "waitpid", "getpid", "getppid", "gettid", "getpgid", "setpgid",
	"getpgrp", "getsid", "setsid", "set_tid_address", "set_robust_list", "get_robust_list",
	"rseq", "futex", "futex_time64", "futex_wait", "futex_wake", "futex_waitv", "futex_requeue",
	"pidfd_open", "pidfd_send_signal", "prctl", "arch_prctl", "set_thread_area",
	"get_thread_area", "set_tls", "cacheflush", "breakpoint", "riscv_flush_icache",
	"riscv_hwprobe", "restart_syscall",
	// The kernel puts this one into a traced program, which dies where it is refused.
	"uretprobe",
	// A debugger, py-spy, MPI's single copy: the kernel lets them see what is theirs, in this
	// PID namespace. Since Linux 4.8 a tracer cannot get around this filter.
	"ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", NULL};

static const char *const scheduling[] = {"sched_yield", "sched_getaffinity", "sched_setaffinity",
	"sched_getattr", "sched_setattr", "sched_getparam", "sched_setparam", "sched_getscheduler",
	"sched_setscheduler", "sched_get_priority_max", "sched_get_priority_min",
	"sched_rr_get_interval", "sched_rr_get_interval_time64", "getpriority", "setpriority",
	"nice", "ioprio_get", "ioprio_set", "getcpu", "getrlimit", "ugetrlimit", "setrlimit",
	"prlimit64", "getrusage", "times", "sysinfo", "uname", NULL};

static const char *const signals[] = {"kill", "tkill", "tgkill", "pause", "rt_sigaction",
	"rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "rt_sigreturn",
	"rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "sigaltstack", "sigaction",
	"signal", "sigpending", "sigprocmask", "sigreturn", "sigsuspend", NULL};

// adjtimex and clock_adjtime also only read; setting is the kernel's to refuse.
static const char *const clocks[] = {"time", "gettimeofday", "clock_gettime", "clock_gettime64",
	"clock_getres", "clock_getres_time64", "clock_nanosleep", "clock_nanosleep_time64",
	"nanosleep", "adjtimex", "clock_adjtime", "clock_adjtime64", "alarm", "getitimer",
	"setitimer", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
	"timer_gettime64", "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime",
	"timerfd_gettime64", "timerfd_settime", "timerfd_settime64", "getrandom", NULL};

// socket stands below. Not socketcall: a 32-bit program could ask for any family with it. (The
// others come through it to those.)
static const char *const sockets[] = {"socketpair", "bind", "listen", "accept", "accept4",
	"connect", "shutdown", "getsockname", "getpeername", "getsockopt", "setsockopt", "send",
	"sendto", "sendmsg", "sendmmsg", "recv", "recvfrom", "recvmsg", "recvmmsg",
	"recvmmsg_time64", NULL};

static const char *const ipc[] = {"ipc", "shmget", "shmat", "shmdt", "shmctl", "semget", "semop",
	"semctl", "semtimedop", "semtimedop_time64", "msgget", "msgsnd", "msgrcv", "msgctl",
	"mq_open", "mq_unlink", "mq_notify", "mq_getsetattr", "mq_timedsend", "mq_timedsend_time64",
	"mq_timedreceive", "mq_timedreceive_time64", NULL};

// Who one is, and being less.
static const char *const identity[] = {"getuid", "getuid32", "geteuid", "geteuid32", "getgid",
	"getgid32", "getegid", "getegid32", "getresuid", "getresuid32", "getresgid", "getresgid32",
	"getgroups", "getgroups32", "setuid", "setuid32", "setgid", "setgid32", "setreuid",
	"setreuid32", "setregid", "setregid32", "setresuid", "setresuid32", "setresgid",
	"setresgid32", "setfsuid", "setfsuid32", "setfsgid", "setfsgid32", "setgroups",
	"setgroups32", "capget", "capset", "seccomp", "landlock_create_ruleset",
	"landlock_add_rule", "landlock_restrict_self", NULL};

static const char *const *const allowed[] = {
	files, waiting, memory, processes, scheduling, signals, clocks, sockets, ipc, identity};

// Allowed to whoever has one of the capabilities that the kernel asks for, else refused here
// already: most of these have had errors that were reached before the kernel's own check.
static const char *const administration[] = {
	// mounts and namespaces (clone stands below)
	"mount", "umount", "umount2", "pivot_root", "fsopen", "fsconfig", "fsmount", "fspick",
	"open_tree", "open_tree_attr", "move_mount", "mount_setattr", "unshare", "setns",
	// the machine
	"sethostname", "setdomainname", "quotactl", "quotactl_fd", "fanotify_init",
	"lookup_dcookie", NULL};
static const char *const roots[] = {"chroot", NULL};
static const char *const handles[] = {"open_by_handle_at", NULL};
static const char *const programs[] = {"bpf", NULL};
static const char *const performance[] = {"perf_event_open", NULL};
static const char *const kernel_log[] = {"syslog", NULL};
static const char *const modules[] = {"init_module", "finit_module", "delete_module", NULL};
static const char *const restarts[] = {"reboot", NULL};
static const char *const accounting[] = {"acct", NULL};
static const char *const ports[] = {"iopl", "ioperm", NULL};
static const char *const clock_setting[] = {
	"settimeofday", "stime", "clock_settime", "clock_settime64", NULL};
static const char *const terminals[] = {"vhangup", NULL};

// To nobody.
static const char *const refused[] = {
	// Keys belong to no namespace of ours: the session's and the users' keyrings are the
	// node's.
	"add_key", "keyctl", "request_key",
	// Many holes in few years, and what it does passes this filter unseen.
	"io_uring_setup", "io_uring_enter", "io_uring_register",
	// Stops the kernel in the middle of a copy: makes races winnable.
	"userfaultfd", "kexec_load", "kexec_file_load", "swapon", "swapoff", "nfsservctl", NULL};

static const struct {
	uint64_t capabilities; // any of them
	const char *const *names;
} privileged[] = {
	{CAPABILITY(SYS_ADMIN), administration},
	{CAPABILITY(SYS_CHROOT), roots},
	{CAPABILITY(DAC_READ_SEARCH), handles},
	{CAPABILITY(SYS_ADMIN) | CAPABILITY(BPF), programs},
	{CAPABILITY(SYS_ADMIN) | CAPABILITY(PERFMON), performance},
	{CAPABILITY(SYS_ADMIN) | CAPABILITY(SYSLOG), kernel_log},
	{CAPABILITY(SYS_MODULE), modules},
	{CAPABILITY(SYS_BOOT), restarts},
	{CAPABILITY(SYS_PACCT), accounting},
	{CAPABILITY(SYS_RAWIO), ports},
	{CAPABILITY(SYS_TIME), clock_setting},
	{CAPABILITY(SYS_TTY_CONFIG), terminals},
	{0, refused},
};

enum { RULES_MAX = 256, NAMES_MAX = 512 };

struct builder {
	struct arena *arena;
	struct runtime_seccomp *profile;
};

static struct runtime_seccomp_rule *add_rule(struct builder *b, unsigned sys)
{
	struct runtime_seccomp_rule *rule = &b->profile->rules[b->profile->rule_count++];
	rule->action = sys ? "SCMP_ACT_ERRNO" : "SCMP_ACT_ALLOW";
	rule->has_errno = sys != 0;
	rule->errno_value = sys;
	return rule;
}

static void add_names(struct json_strings *list, const char *const *names)
{
	for (; *names; names++)
		list->items[list->count++] = *names;
}

// A call for which those bits of one argument have this value; sys: its answer, 0: allowed. The
// kernel takes such arguments as 32 bits, so that a comparison of all 64 would be passed by setting
// one above.
static void add_masked(struct builder *b, const char *name, unsigned sys, unsigned index,
	uint32_t mask, uint32_t value)
{
	struct runtime_seccomp_rule *rule = add_rule(b, sys);
	rule->names.items = arena_array(b->arena, const char *, 2);
	add_names(&rule->names, (const char *const[]){name, NULL});
	rule->arguments = arena_new(b->arena, struct runtime_seccomp_argument);
	*rule->arguments =
		(struct runtime_seccomp_argument){index, mask, value, "SCMP_CMP_MASKED_EQ"};
	rule->argument_count = 1;
}

static void add_plain(struct builder *b, uint64_t capabilities)
{
	struct json_strings may = {.items = arena_array(b->arena, const char *, NAMES_MAX)};
	struct json_strings may_not = {.items = arena_array(b->arena, const char *, NAMES_MAX)};
	for (size_t i = 0; i < array_size(allowed); i++)
		add_names(&may, allowed[i]);
	for (size_t i = 0; i < array_size(privileged); i++)
		add_names(privileged[i].capabilities & capabilities ? &may : &may_not,
			privileged[i].names);
	add_rule(b, 0)->names = may;
	add_rule(b, EPERM)->names = may_not;
}

// New namespaces give capabilities over them, and the code behind those is where most holes of the
// last years were. clone3 has its flags in memory, where a filter cannot look: it stays unknown,
// and C libraries fall back to clone.
static void add_clone(struct builder *b, uint64_t capabilities)
{
	static const uint32_t namespaces[] = {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS,
		CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET};
	uint32_t all = 0;
	if (capabilities & CAPABILITY(SYS_ADMIN)) {
		struct json_strings both = {.items = arena_array(b->arena, const char *, 3)};
		add_names(&both, (const char *const[]){"clone", "clone3", NULL});
		add_rule(b, 0)->names = both;
		return;
	}
	for (size_t i = 0; i < array_size(namespaces); i++) {
		all |= namespaces[i];
		add_masked(b, "clone", EPERM, 0, namespaces[i], namespaces[i]);
	}
	add_masked(b, "clone", 0, 0, all, 0);
}

// The answer of a call depends on the low 32 bits of one argument: these values have one, all
// others another.
struct choice {
	const char *name;
	unsigned index;
	const uint32_t *values;
	size_t count;
	unsigned sys, sys_of_others;
};

static bool has_value(const struct choice *c, uint32_t mask, uint32_t value)
{
	for (size_t i = 0; i < c->count; i++)
		if ((c->values[i] & mask) == value)
			return true;
	return false;
}

// The others that begin with `bits` bits of `prefix`. Libseccomp has no "not equal" for a part of
// an argument, and does not say which rule wins where two hold; so the others are given as the
// ranges of which they consist.
static void add_others(struct builder *b, const struct choice *c, uint32_t prefix, unsigned bits)
{
	uint32_t mask = bits ? ~(uint32_t)0 << (32 - bits) : 0;
	if (!has_value(c, mask, prefix)) {
		add_masked(b, c->name, c->sys_of_others, c->index, mask, prefix);
	} else if (bits < 32) {
		add_others(b, c, prefix, bits + 1);
		add_others(b, c, prefix | UINT32_C(1) << (31 - bits), bits + 1);
	}
}

static void add_choice(struct builder *b, const struct choice *c)
{
	for (size_t i = 0; i < c->count; i++)
		add_masked(b, c->name, c->sys, c->index, ~0U, c->values[i]);
	add_others(b, c, 0, 0);
}

static void add_choices(struct builder *b, uint64_t capabilities)
{
	// Push characters into a terminal as if they were typed.
	static const uint32_t typing[] = {TIOCSTI, TIOCLINUX};
	// What programs use, and last what asks for a capability. The other families are doors into
	// seldom-used parts of the kernel (AF_ALG), loaded at the first call, or know no network
	// namespace (AF_VSOCK: to the machine below).
	static const uint32_t families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET};
	// Linux, 32-bit names of the machine, version 2.6 for old programs, and the question which
	// it is. Others switch off address randomisation, or make pages executable that are not.
	static const uint32_t personalities[] = {
		PER_LINUX, PER_LINUX32, UNAME26, PER_LINUX32 | UNAME26, ~0U};
	bool raw = capabilities & CAPABILITY(NET_RAW);
	const struct choice choices[] = {
		{"ioctl", 1, typing, array_size(typing), EPERM, 0},
		{"socket", 0, families, array_size(families) - !raw, 0, EAFNOSUPPORT},
		{"personality", 0, personalities, array_size(personalities), 0, EPERM},
	};
	for (size_t i = 0; i < array_size(choices); i++)
		add_choice(b, &choices[i]);
}

static void add_architectures(struct builder *b)
{
	// 32-bit programs run. The x32 calls do not: nobody ships such programs, and they would be
	// a second way to everything.
#if defined(__x86_64__)
	static const char *const names[] = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", NULL};
#elif defined(__aarch64__)
	static const char *const names[] = {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", NULL};
#else
	static const char *const names[] = {NULL}; // that of the build
#endif
	// Where the processor needs a defence against its own speculation, kernels before 5.16
	// switch it on for whoever has a filter; numbers are slower by that, and a job is one
	// domain of trust.
	static const char *const flags[] = {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", NULL};
	b->profile->architectures.items = arena_array(b->arena, const char *, array_size(names));
	add_names(&b->profile->architectures, names);
	b->profile->flags.items = arena_array(b->arena, const char *, array_size(flags));
	add_names(&b->profile->flags, flags);
}

void seccomp_default_profile(
	struct arena *a, uint64_t capabilities, struct runtime_seccomp *profile)
{
	*profile = (struct runtime_seccomp){
		.default_action = "SCMP_ACT_ERRNO",
		.has_default_errno = true,
		.default_errno = ENOSYS,
		.rules = arena_array(a, struct runtime_seccomp_rule, RULES_MAX),
	};
	struct builder b = {a, profile};
	add_architectures(&b);
	add_plain(&b, capabilities);
	add_clone(&b, capabilities);
	add_choices(&b, capabilities);
	assert(profile->rule_count <= RULES_MAX);
}
