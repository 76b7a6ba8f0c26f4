// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/confine.h"

#include "base/file.h"
#include "base/memory.h"

#include <grp.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NOBODY = 65534 };

// getaddrinfo(3) loads its modules and reads its configuration when a name is first looked up; TLS
// reads the system's CA bundle. /run holds what /etc/resolv.conf points to.
static const char *const readable[] = {"/etc", "/lib", "/lib64", "/usr/lib", "/usr/lib64",
	"/usr/local/lib", "/usr/share", "/usr/local/share/ca-certificates", "/run/systemd/resolve",
	"/run/NetworkManager", "/run/resolvconf", "/run/nscd", "/dev/urandom"};

// Every right there was when the named version of Landlock came; a right that is handled and not
// granted is refused.
static uint64_t handled_rights(int version)
{
	uint64_t rights = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1; // version 1: all up to this one
	if (version >= 2)
		rights |= 1ull << 13; // LANDLOCK_ACCESS_FS_REFER
	if (version >= 3)
		rights |= 1ull << 14; // LANDLOCK_ACCESS_FS_TRUNCATE
	return rights;
}

static int allow_reading(int ruleset, const char *path, struct error *err)
{
	cleanup_fd int fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0) // not on this system: nothing to allow
		return 0;
	uint64_t rights = LANDLOCK_ACCESS_FS_READ_FILE;
	struct stat st;
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
		rights |= LANDLOCK_ACCESS_FS_READ_DIR;
	struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = fd};
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return error_set_errno(err, errno, "landlock: allow reading %s", path);
	return 0;
}

static int allow_writing(int ruleset, int folder, uint64_t handled, struct error *err)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = handled & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE,
		.parent_fd = folder};
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return error_set_errno(err, errno, "landlock: allow writing");
	return 0;
}

static int confine_files(const int *folders, size_t count, struct error *err)
{
	long version =
		syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (version < 1) // ENOSYS, or EOPNOTSUPP where it is switched off
		return 0;
	if (version < 2 && count) // files could not be renamed from one folder to another
		return 0;
	struct landlock_ruleset_attr attributes = {
		.handled_access_fs = handled_rights((int)version)};
	cleanup_fd int ruleset =
		(int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
	if (ruleset < 0)
		return error_set_errno(err, errno, "landlock: make a rule set");
	for (size_t i = 0; i < array_size(readable); i++)
		if (allow_reading(ruleset, readable[i], err) < 0)
			return -1;
	for (size_t i = 0; i < count; i++)
		if (allow_writing(ruleset, folders[i], attributes.handled_access_fs, err) < 0)
			return -1;
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		return error_set_errno(err, errno, "landlock: confine the process");
	return 0;
}

// In a user namespace that does not map the user "nobody" (EINVAL) we are nobody of importance
// already.
static int drop_user(struct error *err)
{
	if (geteuid() != 0)
		return 0;
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return error_set_errno(err, errno, "drop supplementary groups");
	if (setresgid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL)
		return error_set_errno(err, errno, "become group %d", NOBODY);
	if (setresuid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL)
		return error_set_errno(err, errno, "become user %d", NOBODY);
	return 0;
}

// While we are root, or not at all: EPERM means that there was nothing to lose.
static void drop_bounding_set(void)
{
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

static int drop_capabilities(struct error *err)
{
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	cap_t none = cap_init();
	int status = none ? cap_set_proc(none) : -1;
	int sys = errno;
	if (none)
		cap_free(none);
	return status < 0 ? error_set_errno(err, sys, "drop capabilities") : 0;
}

static const int refused_calls[] = {SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(fork),
	SCMP_SYS(vfork), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
	SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(setns),
	SCMP_SYS(unshare), SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(fsopen),
	SCMP_SYS(fsmount), SCMP_SYS(mount_setattr), SCMP_SYS(bpf), SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd), SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter),
	SCMP_SYS(io_uring_register), SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key),
	SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load), SCMP_SYS(reboot), SCMP_SYS(swapon), SCMP_SYS(swapoff),
	SCMP_SYS(open_by_handle_at), SCMP_SYS(name_to_handle_at), SCMP_SYS(personality),
	SCMP_SYS(mknod), SCMP_SYS(mknodat), SCMP_SYS(setuid), SCMP_SYS(setgid), SCMP_SYS(kill),
	SCMP_SYS(tkill), SCMP_SYS(rt_sigqueueinfo), SCMP_SYS(rt_tgsigqueueinfo),
	SCMP_SYS(pidfd_open), SCMP_SYS(pidfd_getfd), SCMP_SYS(pidfd_send_signal)};

// Refused for some arguments only.
static int refuse_conditionally(scmp_filter_ctx filter)
{
	const struct {
		int call;
		struct scmp_arg_cmp condition;
	} rules[] = {
		// Others of the user "nobody", the fetchers of other pulls among them, are not ours
		// to end or to limit.
		{SCMP_SYS(tgkill), SCMP_A0_32(SCMP_CMP_NE, (uint32_t)getpid())},
		{SCMP_SYS(prlimit64), SCMP_A0_32(SCMP_CMP_NE, 0)},
		// Threads, but no processes: fork(3) is this call, too.
		{SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0)},
		// Standard error may be the terminal of the person who started us: these would type
		// into it. Masked, as the kernel looks at 32 bits.
		{SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, TIOCSTI)},
		{SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, TIOCLINUX)},
	};
	// Its flags lie in memory, where a filter cannot look; the C library then uses clone(2).
	int status = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	for (size_t i = 0; i < array_size(rules) && status == 0; i++)
		status = seccomp_rule_add_array(
			filter, SCMP_ACT_ERRNO(EPERM), rules[i].call, 1, &rules[i].condition);
	return status;
}

// A list of what is refused and not of what is allowed: which calls name resolution makes is the
// choice of the node's NSS modules.
static int confine_calls(struct error *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	if (!filter)
		return error_set(err, ERROR_SYSTEM, "seccomp: cannot make a filter");
	int status = 0;
	for (size_t i = 0; i < array_size(refused_calls) && status == 0; i++)
		status = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), refused_calls[i], 0);
	if (status == 0)
		status = refuse_conditionally(filter);
	if (status == 0)
		status = seccomp_load(filter);
	seccomp_release(filter);
	return status < 0 ? error_set_errno(err, -status, "seccomp: load the filter") : 0;
}

int fetcher_confine(struct error *err)
{
	return fetcher_confine_writing(NULL, 0, err);
}

int fetcher_confine_writing(const int *folders, size_t count, struct error *err)
{
	struct rlimit none = {0, 0};
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return error_set_errno(err, errno, "forbid core dumps");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "no_new_privs");
	if (confine_files(folders, count, err) < 0)
		return -1;
	drop_bounding_set();
	if (drop_user(err) < 0 || drop_capabilities(err) < 0)
		return -1;
	// Changing the user has cleared the first; the second keeps others of the same user, jobs
	// that run as nobody among them, from reading the credentials in our memory.
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_set_errno(err, errno, "prctl");
	return confine_calls(err);
}
