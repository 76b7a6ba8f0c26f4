// SPDX-License-Identifier: Apache-2.0
#include "oci/layer/worker_confine.h"

#include "base/file.h"
#include "base/memory.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define BUILT_WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BUILT_WITH_ASAN 1
#endif
#endif

enum { NOBODY = 65534 };

static void cap_freep(cap_t *caps)
{
	if (*caps)
		cap_free(*caps);
}

// Keep these capabilities and no other.
static int keep_capabilities(const cap_value_t *keep, int count, struct error *err)
{
	__attribute__((cleanup(cap_freep))) cap_t caps = cap_init();
	if (!caps)
		return error_set_errno(err, errno, "cap_init");
	if (count && (cap_set_flag(caps, CAP_PERMITTED, count, keep, CAP_SET) < 0 ||
			     cap_set_flag(caps, CAP_EFFECTIVE, count, keep, CAP_SET) < 0))
		return error_set_errno(err, errno, "cap_set_flag");
	if (cap_set_proc(caps) < 0)
		return error_set_errno(err, errno, "drop capabilities");
	return 0;
}

// Another user than the agent's, so that even a worker with broken seccomp could not signal or
// trace it.
static int become_nobody(struct error *err)
{
	if (geteuid() != 0)
		return 0;
	// In a user namespace that maps root only there is no nobody to become, and nothing to
	// lose.
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return error_set_errno(err, errno, "drop groups");
	if (setresgid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL)
		return error_set_errno(err, errno, "become group %d", NOBODY);
	if (setresuid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL)
		return error_set_errno(err, errno, "become user %d", NOBODY);
	return 0;
}

// Nobody, who may read every file and search every folder: a tree belongs to the ids that built it.
static int become_reader(struct error *err)
{
	static const cap_value_t reader[] = {CAP_DAC_READ_SEARCH};
	bool root = geteuid() == 0;
	if (root && prctl(PR_SET_KEEPCAPS, 1) < 0)
		return error_set_errno(err, errno, "prctl(PR_SET_KEEPCAPS)");
	return become_nobody(err) < 0 ? -1 : keep_capabilities(reader, root ? 1 : 0, err);
}

// Newer than some headers.
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
enum { LANDLOCK_ABI_WITH_REFER = 2 };

// Everything below the folder is allowed (or reading alone), everything else denied. Returns 1
// where the kernel cannot.
static int landlock_folder(int dirfd, bool only_read, struct error *err)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < LANDLOCK_ABI_WITH_REFER) // hard links between folders would be refused
		return 1;
	uint64_t all = (LANDLOCK_ACCESS_FS_REFER << 1) - 1;
	struct landlock_ruleset_attr attributes = {.handled_access_fs = all};
	cleanup_fd int rules =
		(int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
	if (rules < 0)
		return error_set_errno(err, errno, "landlock_create_ruleset");
	struct landlock_path_beneath_attr beneath = {
		.allowed_access =
			only_read ? LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR
				  : all & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE,
		.parent_fd = dirfd};
	if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0)
		return error_set_errno(err, errno, "landlock_add_rule");
	if (syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		return error_set_errno(err, errno, "landlock_restrict_self");
	return 0;
}

// Put the folder behind `dirfd` on a mount of its own where device nodes cannot be opened and
// nothing can be executed: who may make any node could otherwise make the disk's, and open it. In a
// mount namespace that only this process has, over /proc, which a worker does not use: any folder
// that is sure to be there would do. Slave and not private, so that the node's own unmounts still
// reach the copies.
static int mount_without_devices(int dirfd, struct error *err)
{
	const unsigned long flags = MS_NODEV | MS_NOSUID | MS_NOEXEC;
	if (fchdir(dirfd) < 0 || unshare(CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
		mount(".", "/proc", NULL, MS_BIND, NULL) < 0 ||
		mount(NULL, "/proc", NULL, MS_REMOUNT | MS_BIND | flags, NULL) < 0)
		return error_set_errno(err, errno,
			"mount the layer's folder without devices, as unpacking as root needs");
	cleanup_fd int mounted = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	// The old descriptor would still lead to the old mount.
	if (mounted < 0 || dup3(mounted, dirfd, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "open the layer's folder on its own mount");
	return 0;
}

// The folder becomes the root, and reading all that may be done below it: what may read every file
// must not be able to change those that are for all to write.
static int enter_tree(int dirfd, struct error *err)
{
	bool inside = fchdir(dirfd) == 0 && chroot(".") == 0;
	int held = landlock_folder(dirfd, true, err);
	if (held > 0 && !inside && geteuid() == 0)
		return error_set(err, ERROR_DENIED,
			"neither chroot(2) nor Landlock is permitted here, so that a tree cannot "
			"be read as root safely");
	return held < 0 ? -1 : 0;
}

static int enter_folder(enum confine_profile profile, int dirfd, struct error *err)
{
	if (profile == CONFINE_TREE)
		return enter_tree(dirfd, err);
	umask(0);
	if (profile == CONFINE_DIRECTORY_PRIVILEGED && mount_without_devices(dirfd, err) < 0)
		return -1;
	if (fchdir(dirfd) < 0)
		return error_set_errno(err, errno, "enter the layer's folder");
	if (profile == CONFINE_DIRECTORY_PRIVILEGED && chroot(".") == 0)
		return 0;
	int held = landlock_folder(dirfd, false, err);
	if (held > 0 && profile == CONFINE_DIRECTORY_PRIVILEGED)
		return error_set(err, ERROR_DENIED,
			"neither chroot(2) nor Landlock is permitted here, "
			"so that a layer cannot be unpacked as root safely");
	return held < 0 ? -1 : 0;
}

int confine_privileges(enum confine_profile profile, int dirfd, struct error *err)
{
	static const cap_value_t file_makers[] = {CAP_CHOWN, CAP_FOWNER, CAP_FSETID,
		CAP_DAC_OVERRIDE, CAP_MKNOD, CAP_SETFCAP,
		CAP_SYS_ADMIN}; // the last for trusted.* attributes
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "prctl(PR_SET_NO_NEW_PRIVS)");
	if (profile != CONFINE_IMAGE && enter_folder(profile, dirfd, err) < 0)
		return -1;
	if (profile == CONFINE_DIRECTORY_PRIVILEGED) {
		if (keep_capabilities(file_makers, array_size(file_makers), err) < 0)
			return -1;
	} else if (profile == CONFINE_TREE) {
		if (become_reader(err) < 0)
			return -1;
	} else if ((profile == CONFINE_IMAGE && become_nobody(err) < 0) ||
		   keep_capabilities(NULL, 0, err) < 0) {
		return -1;
	}
	// A change of user clears the first and resets the second.
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return error_set_errno(err, errno, "prctl");
	return 0;
}

int confine_memory(uint64_t metadata_bytes, struct error *err)
{
#ifdef BUILT_WITH_ASAN
	(void)metadata_bytes, (void)err; // its shadow takes terabytes of addresses
	return 0;
#else
	// Tables double, and are sorted into others at the end; a zstd window, libarchive's and the
	// pipeline's memory and the libraries fit into the fixed part several times.
	const uint64_t fixed = UINT64_C(1) << 30, most = UINT64_C(1) << 60;
	uint64_t bytes = metadata_bytes < most ? 3 * metadata_bytes + fixed : RLIM_INFINITY;
	struct rlimit limit;
	if (getrlimit(RLIMIT_AS, &limit) < 0)
		return error_set_errno(err, errno, "getrlimit");
	limit.rlim_cur = limit.rlim_cur < bytes ? limit.rlim_cur : bytes;
	limit.rlim_max = limit.rlim_max < bytes ? limit.rlim_max : bytes;
	if (setrlimit(RLIMIT_AS, &limit) < 0)
		return error_set_errno(err, errno, "limit the layer worker's memory");
	return 0;
#endif
}

static const int common_calls[] = {
	// the descriptors
	SCMP_SYS(read),
	SCMP_SYS(readv),
	SCMP_SYS(pread64),
	SCMP_SYS(preadv),
	SCMP_SYS(preadv2),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(pwrite64),
	SCMP_SYS(pwritev),
	SCMP_SYS(pwritev2),
	SCMP_SYS(lseek),
	SCMP_SYS(fstat),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fallocate),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(sync_file_range),
	SCMP_SYS(fadvise64),
	SCMP_SYS(close),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	// memory; mmap and mprotect stand in add_conditional_calls()
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	// threads
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(sched_yield),
	SCMP_SYS(gettid),
	SCMP_SYS(getpid),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(restart_syscall),
	// what the C library asks on its own; sysinfo: qsort()
	SCMP_SYS(getrandom),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(sysinfo),
};

static const int directory_calls[] = {
	SCMP_SYS(openat),
	SCMP_SYS(openat2),
	SCMP_SYS(fcntl),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(mkdirat),
	SCMP_SYS(mknodat),
	SCMP_SYS(symlinkat),
	SCMP_SYS(linkat),
	SCMP_SYS(unlinkat),
	SCMP_SYS(renameat2),
	SCMP_SYS(getdents64),
	SCMP_SYS(readlinkat),
	SCMP_SYS(fchdir),
	SCMP_SYS(fchown),
	SCMP_SYS(fchownat),
	SCMP_SYS(fchmod),
	SCMP_SYS(fchmodat),
	SCMP_SYS(utimensat),
	SCMP_SYS(fsetxattr),
	SCMP_SYS(lsetxattr),
	SCMP_SYS(flistxattr),
	SCMP_SYS(fremovexattr),
	SCMP_SYS(fgetxattr),
	SCMP_SYS(syncfs),
	SCMP_SYS(mkdir),
	SCMP_SYS(unlink),
	SCMP_SYS(rmdir),
	SCMP_SYS(dup),
	SCMP_SYS(statfs),
	SCMP_SYS(fstatfs),
};

static const int tree_calls[] = {
	SCMP_SYS(openat2),
	SCMP_SYS(fcntl),
	SCMP_SYS(newfstatat),
	SCMP_SYS(getdents64),
	SCMP_SYS(readlinkat),
};

#ifdef BUILT_WITH_ASAN
// For threads and memory maps of AddressSanitizer's own. Its reports take more, and are lost here.
static const int sanitizer_calls[] = {SCMP_SYS(sigaltstack), SCMP_SYS(sched_getaffinity),
	SCMP_SYS(prctl), SCMP_SYS(getrlimit), SCMP_SYS(prlimit64), SCMP_SYS(readlink)};
#endif

static int add_calls(scmp_filter_ctx filter, const int *calls, size_t count, struct error *err)
{
	for (size_t i = 0; i < count; i++) {
		int code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
		if (code < 0 && code != -EEXIST)
			return error_set_errno(
				err, -code, "seccomp rule for system call %d", calls[i]);
	}
	return 0;
}

// Calls that are allowed for some arguments only.
static int add_conditional_calls(scmp_filter_ctx filter, int socket, struct error *err)
{
	const struct scmp_arg_cmp on_socket = SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)socket);
	// abort() sends itself a signal; without this it would end as SIGSYS and hide the reason.
	const struct scmp_arg_cmp to_self = SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)getpid());
	const struct scmp_arg_cmp not_executable = SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	// fstat() of newer C libraries. The path that it could name tells a stranger little.
	const struct scmp_arg_cmp of_descriptor =
		SCMP_A3_32(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH);
	const struct {
		int call;
		struct scmp_arg_cmp condition;
	} rules[] = {
		{SCMP_SYS(sendmsg), on_socket},
		{SCMP_SYS(sendto), on_socket},
		{SCMP_SYS(recvmsg), on_socket},
		{SCMP_SYS(recvfrom), on_socket},
		{SCMP_SYS(tgkill), to_self},
		{SCMP_SYS(mmap), not_executable},
		{SCMP_SYS(mprotect), not_executable},
		{SCMP_SYS(newfstatat), of_descriptor},
	};
	for (size_t i = 0; i < array_size(rules); i++) {
		int code = seccomp_rule_add_array(
			filter, SCMP_ACT_ALLOW, rules[i].call, 1, &rules[i].condition);
		if (code < 0)
			return error_set_errno(
				err, -code, "seccomp rule for system call %d", rules[i].call);
	}
	return 0;
}

static int fill_filter(
	scmp_filter_ctx filter, enum confine_profile profile, int socket, struct error *err)
{
	int code = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (code < 0)
		return error_set_errno(err, -code, "seccomp for all threads");
	// A binary tree instead of a list; where libseccomp cannot, the list does as well.
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (add_conditional_calls(filter, socket, err) < 0 ||
		add_calls(filter, common_calls, array_size(common_calls), err) < 0)
		return -1;
	bool tree = profile == CONFINE_TREE;
	if (tree && add_calls(filter, tree_calls, array_size(tree_calls), err) < 0)
		return -1;
	if (!tree && profile != CONFINE_IMAGE &&
		add_calls(filter, directory_calls, array_size(directory_calls), err) < 0)
		return -1;
#ifdef BUILT_WITH_ASAN
	if (add_calls(filter, sanitizer_calls, array_size(sanitizer_calls), err) < 0)
		return -1;
#endif
	code = seccomp_load(filter);
	return code < 0 ? error_set_errno(err, -code, "load the seccomp filter") : 0;
}

int confine_system_calls(enum confine_profile profile, int socket, struct error *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!filter)
		return error_set(err, ERROR_SYSTEM, "seccomp_init failed");
	int result = fill_filter(filter, profile, socket, err);
	seccomp_release(filter);
	return result;
}
