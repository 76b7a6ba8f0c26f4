// SPDX-License-Identifier: Apache-2.0
#include "agent/data/outputs_confine.h"

#include "base/file.h"
#include "base/memory.h"

#include <grp.h>
#include <linux/fs.h>
#include <linux/landlock.h>
#include <linux/securebits.h>
#include <seccomp.h>
#include <stdbool.h>
#include <sys/capability.h>
#include <sys/mman.h>
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

static struct {
	bool two;
	uid_t owner;
} sides;

// The system calls and not the C library's functions, which would change all threads: those that
// hash own nothing and make nothing.
void outputs_act_as(enum outputs_side side)
{
	if (sides.two && syscall(SYS_setresuid, -1, side == OUTPUTS_NODE ? 0 : sides.owner, -1) < 0)
		abort(); // never as the wrong one
}

static uint64_t handled_rights(long version)
{
	uint64_t rights = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;
	if (version >= 2)
		rights |= 1ULL << 13; // LANDLOCK_ACCESS_FS_REFER
	if (version >= 3)
		rights |= 1ULL << 14; // LANDLOCK_ACCESS_FS_TRUNCATE
	return rights;
}

static int allow(int rules, int folder, uint64_t rights, struct error *err)
{
	struct landlock_path_beneath_attr beneath = {
		.allowed_access = rights & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE,
		.parent_fd = folder};
	if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0)
		return error_set_errno(err, errno, "landlock_add_rule");
	return 0;
}

// A file system that is mounted there anew, after a while without, has another root folder; a rule
// for the folder above holds for both.
static int allow_destination(int rules, int folder, uint64_t rights, struct error *err)
{
	struct stat own, above;
	cleanup_fd int up = openat(folder, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (allow(rules, folder, rights, err) < 0)
		return -1;
	if (up < 0 || fstat(folder, &own) < 0 || fstat(up, &above) < 0 ||
		own.st_dev == above.st_dev)
		return 0;
	return allow(rules, up, rights, err);
}

static int confine_files(int run_fd, int destination, struct error *err)
{
	long version =
		syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (version < 2 || destination < 0) // renames between folders would be refused
		return 0;
	struct landlock_ruleset_attr attributes = {.handled_access_fs = handled_rights(version)};
	cleanup_fd int rules =
		(int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
	if (rules < 0)
		return error_set_errno(err, errno, "landlock_create_ruleset");
	if (allow(rules, run_fd, attributes.handled_access_fs, err) < 0 ||
		allow_destination(rules, destination, attributes.handled_access_fs, err) < 0)
		return -1;
	if (syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		return error_set_errno(err, errno, "landlock_restrict_self");
	return 0;
}

static int set_capabilities(const cap_value_t *keep, int count)
{
	cap_t caps = cap_init();
	int rc = caps ? 0 : -1;
	if (rc == 0 && count)
		rc = cap_set_flag(caps, CAP_PERMITTED, count, keep, CAP_SET) < 0 ||
				     cap_set_flag(caps, CAP_EFFECTIVE, count, keep, CAP_SET) < 0
			     ? -1
			     : 0;
	if (rc == 0)
		rc = cap_set_proc(caps);
	int sys = errno;
	if (caps)
		cap_free(caps);
	errno = sys;
	return rc;
}

// Root becomes the destination's owner, with a way back to its own files but not to its privileges:
// changes of user change no capabilities any more, and there is only the one to read.
static int drop_root(int destination, struct error *err)
{
	static const cap_value_t reads[] = {CAP_DAC_READ_SEARCH};
	struct stat st = {0};
	if (destination >= 0 && fstat(destination, &st) < 0)
		return error_set_errno(err, errno, "look at the destination");
	const unsigned long bits = SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
				   SECBIT_NOROOT | SECBIT_NOROOT_LOCKED;
	if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "prctl(PR_SET_SECUREBITS)");
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return error_set_errno(err, errno, "drop groups");
	// Ids that the user namespace we may be in does not map: as ourselves then.
	if (setresgid(st.st_gid, st.st_gid, st.st_gid) < 0 && errno != EINVAL)
		return error_set_errno(err, errno, "take the destination's group");
	if (st.st_uid != 0 && setresuid(0, st.st_uid, st.st_uid) == 0) {
		sides.two = true;
		sides.owner = st.st_uid;
	} else if (st.st_uid != 0 && errno != EINVAL) {
		return error_set_errno(err, errno, "become the destination's owner");
	}
	if (set_capabilities(reads, array_size(reads)) < 0 && set_capabilities(NULL, 0) < 0)
		return error_set_errno(err, errno, "drop capabilities");
	return 0;
}

int outputs_confine_privileges(int run_fd, const char *destination, struct error *err)
{
	struct rlimit none = {0, 0};
	umask(0);
	cleanup_fd int folder = open(destination, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return error_set_errno(err, errno, "forbid core dumps");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "prctl(PR_SET_NO_NEW_PRIVS)");
	if (confine_files(run_fd, folder, err) < 0)
		return -1;
	if (geteuid() == 0 && drop_root(folder, err) < 0)
		return -1;
	return prctl(PR_SET_DUMPABLE, 0) < 0 ? error_set_errno(err, errno, "prctl") : 0;
}

static const int calls[] = {
	// files
	SCMP_SYS(read), SCMP_SYS(pread64), SCMP_SYS(write), SCMP_SYS(pwrite64), SCMP_SYS(writev),
	SCMP_SYS(lseek), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(statx),
	SCMP_SYS(ftruncate), SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(syncfs),
	SCMP_SYS(sync_file_range), SCMP_SYS(fadvise64), SCMP_SYS(close), SCMP_SYS(openat),
	SCMP_SYS(open), SCMP_SYS(openat2), SCMP_SYS(fcntl), SCMP_SYS(mkdirat), SCMP_SYS(symlinkat),
	SCMP_SYS(unlinkat), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(getdents64),
	SCMP_SYS(readlinkat), SCMP_SYS(fchmod), SCMP_SYS(fchmodat), SCMP_SYS(utimensat),
	SCMP_SYS(copy_file_range), SCMP_SYS(fstatfs), SCMP_SYS(inotify_add_watch),
	SCMP_SYS(setresuid),
	// the loop
	SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2),
	SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime), SCMP_SYS(poll), SCMP_SYS(ppoll),
	// memory; mmap and mprotect stand in add_conditional()
	SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk),
	// threads
	SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield),
	SCMP_SYS(gettid), SCMP_SYS(getpid), SCMP_SYS(geteuid), SCMP_SYS(exit), SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(restart_syscall),
	// what the C library asks on its own; sysinfo: qsort()
	SCMP_SYS(getrandom), SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep), SCMP_SYS(sysinfo)};

#ifdef BUILT_WITH_ASAN
// For threads and memory maps of AddressSanitizer's own. Its reports take more, and are lost here.
static const int sanitizer_calls[] = {SCMP_SYS(sigaltstack), SCMP_SYS(sched_getaffinity),
	SCMP_SYS(prctl), SCMP_SYS(getrlimit), SCMP_SYS(prlimit64), SCMP_SYS(readlink)};
#endif

static int add(scmp_filter_ctx filter, const int *list, size_t count)
{
	int code = 0;
	for (size_t i = 0; i < count && code >= 0; i++) {
		code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, list[i], 0);
		if (code == -EEXIST)
			code = 0;
	}
	return code;
}

static int add_conditional(scmp_filter_ctx filter, int socket)
{
	const struct scmp_arg_cmp on_socket = SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)socket);
	const struct scmp_arg_cmp to_self = SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)getpid());
	const struct scmp_arg_cmp not_executable = SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	const struct scmp_arg_cmp clone_file = SCMP_A1_32(SCMP_CMP_EQ, (uint32_t)FICLONE);
	const struct {
		int call;
		struct scmp_arg_cmp condition;
	} rules[] = {
		{SCMP_SYS(sendmsg), on_socket},
		{SCMP_SYS(sendto), on_socket},
		{SCMP_SYS(recvmsg), on_socket},
		{SCMP_SYS(recvfrom), on_socket},
		{SCMP_SYS(tgkill), to_self}, // abort()
		{SCMP_SYS(mmap), not_executable},
		{SCMP_SYS(mprotect), not_executable},
		{SCMP_SYS(ioctl), clone_file},
	};
	int code = 0;
	for (size_t i = 0; i < array_size(rules) && code >= 0; i++)
		code = seccomp_rule_add_array(
			filter, SCMP_ACT_ALLOW, rules[i].call, 1, &rules[i].condition);
	return code;
}

int outputs_confine_calls(int socket, struct error *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!filter)
		return error_set(err, ERROR_SYSTEM, "seccomp_init failed");
	int code = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); // where libseccomp can
	if (code >= 0)
		code = add(filter, calls, array_size(calls));
#ifdef BUILT_WITH_ASAN
	if (code >= 0)
		code = add(filter, sanitizer_calls, array_size(sanitizer_calls));
#endif
	if (code >= 0)
		code = add_conditional(filter, socket);
	if (code >= 0)
		code = seccomp_load(filter);
	seccomp_release(filter);
	return code < 0 ? error_set_errno(err, -code, "seccomp: load the filter") : 0;
}
