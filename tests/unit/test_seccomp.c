// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/seccomp.h"

#include "base/text.h"
#include "oci/runtime/seccomp_ready.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CAPABILITY(name) (UINT64_C(1) << CAP_##name)
#define JOB		 (CAPABILITY(SYS_CHROOT) | CAPABILITY(KILL) | CAPABILITY(CHOWN))

#if defined(__x86_64__)
#define NATIVE	AUDIT_ARCH_X86_64
#define FOREIGN AUDIT_ARCH_I386
#elif defined(__aarch64__)
#define NATIVE	AUDIT_ARCH_AARCH64
#define FOREIGN AUDIT_ARCH_ARM
#endif

enum { X32_BIT = 0x40000000, CALLS = 600, UNKNOWN_CALL = 9999 };

// ---- what the kernel would answer, without asking it

static bool jumps(const struct sock_filter *f, uint32_t value)
{
	switch (BPF_OP(f->code)) {
	case BPF_JEQ:
		return value == f->k;
	case BPF_JGT:
		return value > f->k;
	case BPF_JGE:
		return value >= f->k;
	case BPF_JSET:
		return (value & f->k) != 0;
	default:
		fail_msg("unexpected jump %#x", f->code);
		return false;
	}
}

// The few instructions that libseccomp makes. *steps: how many were taken.
static uint32_t interpret(
	const struct seccomp_program *p, const struct seccomp_data *data, unsigned *steps)
{
	const struct sock_filter *f = p->filter;
	size_t count = p->size / sizeof(*f);
	uint32_t value = 0;
	*steps = 0;
	for (size_t at = 0; at < count; at++, ++*steps) {
		const struct sock_filter *i = &f[at];
		if (i->code == (BPF_RET | BPF_K))
			return i->k;
		if (i->code == (BPF_LD | BPF_W | BPF_ABS)) {
			assert_true(i->k + sizeof(value) <= sizeof(*data));
			memcpy(&value, (const char *)data + i->k, sizeof(value));
		} else if (i->code == (BPF_ALU | BPF_AND | BPF_K)) {
			value &= i->k;
		} else if (i->code == (BPF_JMP | BPF_JA)) {
			at += i->k;
		} else if (BPF_CLASS(i->code) == BPF_JMP && BPF_SRC(i->code) == BPF_K) {
			at += jumps(i, value) ? i->jt : i->jf;
		} else {
			fail_msg("unexpected instruction %#x", i->code);
		}
	}
	fail_msg("ran over the end");
	return 0;
}

// 0 for ALLOW, the number for ERRNO.
static int answer(const struct seccomp_program *p, const struct seccomp_data *data)
{
	unsigned steps;
	uint32_t action = interpret(p, data, &steps);
	if (action == SECCOMP_RET_ALLOW)
		return 0;
	if ((action & SECCOMP_RET_ACTION_FULL) != SECCOMP_RET_ERRNO)
		fail_msg("call %d: action %#x", data->nr, action);
	return (int)(action & SECCOMP_RET_DATA);
}

static void compile(struct arena *a, uint64_t capabilities, struct seccomp_program *program)
{
	struct runtime_seccomp profile;
	struct error err;
	seccomp_default_profile(a, capabilities, &profile);
	if (seccomp_compile(a, &profile, program, &err) < 0)
		fail_msg("%s", err.text);
}

// For this machine's own programs alone, which is quicker.
static void compile_native(struct arena *a, uint64_t capabilities, struct seccomp_program *program)
{
	struct runtime_seccomp profile;
	struct error err;
	seccomp_default_profile(a, capabilities, &profile);
	profile.architectures.count = 0;
	if (seccomp_compile(a, &profile, program, &err) < 0)
		fail_msg("%s", err.text);
}

// What a call with these arguments is answered.
struct question {
	int call;
	uint64_t args[6];
	int expected;
	const char *why;
};

static void ask(const struct seccomp_program *p, uint32_t arch, const struct question *q)
{
	struct seccomp_data data = {.nr = q->call, .arch = arch};
	memcpy(data.args, q->args, sizeof(data.args));
	int got = answer(p, &data);
	if (got != q->expected)
		fail_msg("call %d(%#llx, %#llx): %d, not %d: %s", q->call,
			(unsigned long long)q->args[0], (unsigned long long)q->args[1], got,
			q->expected, q->why);
}

static const struct question of_a_job[] = {
	{SYS_read, {0}, 0, "plain"},
	{SYS_openat, {~0ULL, ~0ULL, ~0ULL}, 0, "whatever its arguments"},
	{SYS_mbind, {0}, 0, "numeric libraries"},
	{SYS_ptrace, {0}, 0, "debuggers"},
	{SYS_process_vm_readv, {0}, 0, "MPI"},
	{SYS_landlock_create_ruleset, {0}, 0, "can only take away"},
	{UNKNOWN_CALL, {0}, ENOSYS, "unknown"},
	{-1, {0}, ENOSYS, "none"},
	{SYS_clone3, {0}, ENOSYS, "its flags cannot be seen; libc falls back"},
	{SYS_mount, {0}, EPERM, "CAP_SYS_ADMIN"},
	{SYS_umount2, {0}, EPERM, "CAP_SYS_ADMIN"},
	{SYS_move_mount, {0}, EPERM, "CAP_SYS_ADMIN"},
	{SYS_open_tree, {0}, EPERM, "CAP_SYS_ADMIN"},
	{SYS_fsopen, {0}, EPERM, "CAP_SYS_ADMIN"},
	{SYS_mount_setattr, {0}, EPERM, "CAP_SYS_ADMIN"},
	{SYS_pivot_root, {0}, EPERM, "CAP_SYS_ADMIN"},
	{SYS_unshare, {0}, EPERM, "CAP_SYS_ADMIN"},
	{SYS_setns, {0}, EPERM, "CAP_SYS_ADMIN"},
	{SYS_sethostname, {0}, EPERM, "CAP_SYS_ADMIN"},
	{SYS_quotactl, {0}, EPERM, "CAP_SYS_ADMIN"},
	{SYS_bpf, {0}, EPERM, "CAP_BPF"},
	{SYS_perf_event_open, {0}, EPERM, "CAP_PERFMON"},
	{SYS_syslog, {0}, EPERM, "CAP_SYSLOG"},
	{SYS_init_module, {0}, EPERM, "CAP_SYS_MODULE"},
	{SYS_finit_module, {0}, EPERM, "CAP_SYS_MODULE"},
	{SYS_delete_module, {0}, EPERM, "CAP_SYS_MODULE"},
	{SYS_open_by_handle_at, {0}, EPERM, "CAP_DAC_READ_SEARCH"},
	{SYS_reboot, {0}, EPERM, "CAP_SYS_BOOT"},
	{SYS_settimeofday, {0}, EPERM, "CAP_SYS_TIME"},
	{SYS_clock_settime, {0}, EPERM, "CAP_SYS_TIME"},
	{SYS_acct, {0}, EPERM, "CAP_SYS_PACCT"},
	{SYS_keyctl, {0}, EPERM, "never"},
	{SYS_add_key, {0}, EPERM, "never"},
	{SYS_request_key, {0}, EPERM, "never"},
	{SYS_io_uring_setup, {0}, EPERM, "never"},
	{SYS_io_uring_enter, {0}, EPERM, "never"},
	{SYS_userfaultfd, {0}, EPERM, "never"},
	{SYS_kexec_load, {0}, EPERM, "never"},
	{SYS_kexec_file_load, {0}, EPERM, "never"},
	{SYS_swapon, {0}, EPERM, "never"},
	// flags
	{SYS_clone, {SIGCHLD}, 0, "fork"},
	{SYS_clone, {CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD}, 0,
		"thread"},
	{SYS_clone, {CLONE_NEWUSER}, EPERM, "a namespace"},
	{SYS_clone, {CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD}, EPERM, "two"},
	{SYS_clone, {CLONE_NEWNS}, EPERM, "a namespace"},
	{SYS_clone, {CLONE_NEWPID}, EPERM, "a namespace"},
	{SYS_clone, {CLONE_NEWNET | CLONE_VM}, EPERM, "a namespace"},
	{SYS_clone, {CLONE_NEWUTS}, EPERM, "a namespace"},
	{SYS_clone, {CLONE_NEWIPC}, EPERM, "a namespace"},
	{SYS_clone, {CLONE_NEWCGROUP}, EPERM, "a namespace"},
	{SYS_clone, {CLONE_NEWUSER | 1ULL << 40}, EPERM, "the kernel does not look above"},
	{SYS_clone, {SIGCHLD | 1ULL << 40}, 0, "nor do we"},
	{SYS_ioctl, {0, TIOCSTI}, EPERM, "types for others"},
	{SYS_ioctl, {0, TIOCSTI | 1ULL << 32}, EPERM, "CVE-2019-10063"},
	{SYS_ioctl, {0, TIOCSTI | ~0ULL << 32}, EPERM, "CVE-2019-10063"},
	{SYS_ioctl, {0, TIOCLINUX}, EPERM, "types for others"},
	{SYS_ioctl, {0, TIOCLINUX | 1ULL << 63}, EPERM, "the same"},
	{SYS_ioctl, {0, TIOCGWINSZ}, 0, "the number behind TIOCSTI"},
	{SYS_ioctl, {0, TIOCGWINSZ | ~0ULL << 32}, 0, "a sign is extended"},
	{SYS_ioctl, {0, TCGETS}, 0, "isatty()"},
	{SYS_ioctl, {0, FIONREAD}, 0, "the number before TIOCLINUX"},
	{SYS_ioctl, {0, 0xc020462a}, 0, "a GPU's"},
	{SYS_ioctl, {0, 0xffffffffc020462a}, 0, "a sign is extended"},
	{SYS_socket, {AF_UNIX}, 0, "usual"},
	{SYS_socket, {AF_INET}, 0, "usual"},
	{SYS_socket, {AF_INET6}, 0, "usual"},
	{SYS_socket, {AF_NETLINK}, 0, "usual"},
	{SYS_socket, {AF_ALG}, EAFNOSUPPORT, "seldom"},
	{SYS_socket, {AF_VSOCK}, EAFNOSUPPORT, "no namespace"},
	{SYS_socket, {AF_VSOCK | 1ULL << 32}, EAFNOSUPPORT, "the kernel does not look above"},
	{SYS_socket, {AF_UNSPEC}, EAFNOSUPPORT, "seldom"},
	{SYS_socket, {AF_X25}, EAFNOSUPPORT, "seldom"},
	{SYS_socket, {~0ULL}, EAFNOSUPPORT, "none"},
	{SYS_personality, {PER_LINUX}, 0, "usual"},
	{SYS_personality, {PER_LINUX32}, 0, "usual"},
	{SYS_personality, {0xffffffff}, 0, "the question"},
	{SYS_personality, {ADDR_NO_RANDOMIZE}, EPERM, "weakens"},
	{SYS_personality, {READ_IMPLIES_EXEC}, EPERM, "weakens"},
	{SYS_personality, {READ_IMPLIES_EXEC | 1ULL << 32}, EPERM, "the same"},
};

static void answers_a_job(void **state)
{
	const struct question chroot_allowed = {SYS_chroot, {0}, 0, "CAP_SYS_CHROOT"};
	const struct question chroot_refused = {SYS_chroot, {0}, EPERM, "CAP_SYS_CHROOT"};
	const struct question packet = {SYS_socket, {AF_PACKET}, 0, "CAP_NET_RAW"};
	const struct question no_packet = {SYS_socket, {AF_PACKET}, EAFNOSUPPORT, "CAP_NET_RAW"};
	cleanup_arena struct arena a = {0};
	struct seccomp_program root, user, raw;

	(void)state;
	compile(&a, JOB, &root);
	compile(&a, 0, &user);
	assert_int_equal(root.flags, SECCOMP_FILTER_FLAG_SPEC_ALLOW);
	for (size_t i = 0; i < array_size(of_a_job); i++) {
		ask(&root, NATIVE, &of_a_job[i]);
		ask(&user, NATIVE, &of_a_job[i]);
	}
	ask(&root, NATIVE, &chroot_allowed);
	ask(&user, NATIVE, &chroot_refused);
	ask(&root, NATIVE, &no_packet);
	compile_native(&a, CAPABILITY(NET_RAW), &raw);
	ask(&raw, NATIVE, &packet);
}

// Each capability opens its calls and no others.
static void answers_by_capability(void **state)
{
	static const struct {
		uint64_t capability;
		int calls[6];
	} cases[] = {
		{CAPABILITY(SYS_ADMIN),
			{SYS_mount, SYS_umount2, SYS_unshare, SYS_setns, SYS_clone3, SYS_bpf}},
		{CAPABILITY(BPF), {SYS_bpf}},
		{CAPABILITY(PERFMON), {SYS_perf_event_open}},
		{CAPABILITY(SYS_MODULE), {SYS_init_module, SYS_finit_module, SYS_delete_module}},
		{CAPABILITY(SYS_BOOT), {SYS_reboot}},
		{CAPABILITY(SYS_PACCT), {SYS_acct}},
		{CAPABILITY(SYS_TIME), {SYS_settimeofday, SYS_clock_settime}},
		{CAPABILITY(SYSLOG), {SYS_syslog}},
		{CAPABILITY(SYS_TTY_CONFIG), {SYS_vhangup}},
		{CAPABILITY(DAC_READ_SEARCH), {SYS_open_by_handle_at}},
		{CAPABILITY(SYS_CHROOT), {SYS_chroot}},
	};
	static struct seccomp_program programs[array_size(cases)];
	cleanup_arena struct arena a = {0};
	struct seccomp_program none;

	(void)state;
	compile_native(&a, 0, &none);
	for (size_t i = 0; i < array_size(cases); i++)
		compile_native(&a, cases[i].capability, &programs[i]);
	for (size_t i = 0; i < array_size(cases); i++) {
		for (const int *call = cases[i].calls; *call; call++) {
			const struct seccomp_data data = {.nr = *call, .arch = NATIVE};
			assert_int_not_equal(answer(&none, &data), 0);
			assert_int_equal(answer(&programs[i], &data), 0);
			// Where SYS_ADMIN and another both open it, both do.
			for (size_t k = 1; k < array_size(cases); k++)
				if (k != i && i != 0 && answer(&programs[k], &data) == 0)
					fail_msg("call %d by case %zu", *call, k);
		}
	}
	const struct question namespace = {SYS_clone, {CLONE_NEWUSER}, 0, "CAP_SYS_ADMIN"};
	ask(&programs[0], NATIVE, &namespace);
}

static void answers_other_architectures(void **state)
{
	cleanup_arena struct arena a = {0};
	struct seccomp_program p;

	(void)state;
	compile(&a, JOB, &p);
#if defined(__x86_64__)
	// The numbers of 32-bit programs.
	static const struct question i386[] = {
		{3, {0}, 0, "read"},
		{21, {0}, EPERM, "mount"},
		{120, {SIGCHLD}, 0, "clone"},
		{120, {CLONE_NEWUSER}, EPERM, "clone"},
		{54, {0, TIOCSTI}, EPERM, "ioctl"},
		{54, {0, TCGETS}, 0, "ioctl"},
		{102, {1}, EAFNOSUPPORT, "socketcall's socket: its family cannot be seen"},
		{102, {3}, 0, "socketcall's connect"},
		{359, {AF_INET}, ENOSYS, "socket: comes together with socketcall's"},
		{359, {AF_VSOCK}, EAFNOSUPPORT, "socket"},
		{357, {0}, EPERM, "bpf"},
		{435, {0}, ENOSYS, "clone3"},
	};
	for (size_t i = 0; i < array_size(i386); i++)
		ask(&p, FOREIGN, &i386[i]);
	const struct question x32 = {X32_BIT | SYS_read, {0}, ENOSYS, "x32"};
	ask(&p, NATIVE, &x32);
#endif
	const struct question stranger = {SYS_read, {0}, ENOSYS, "no table of ours"};
	ask(&p, AUDIT_ARCH_S390X, &stranger);
}

// ---- ready-made programs

static void ready_programs_are_used(void **state)
{
	static const uint64_t sets[] = {JOB, 0, CAPABILITY(CHOWN) | CAPABILITY(SETUID)};

	(void)state;
	for (size_t i = 0; i < array_size(sets); i++) {
		cleanup_arena struct arena a = {0}, compiled = {0};
		struct runtime_seccomp profile;
		struct seccomp_program p;
		struct error err;
		seccomp_default_profile(&a, sets[i], &profile);
		assert_int_equal(seccomp_compile(&compiled, &profile, &p, &err), 0);
		assert_int_equal(compiled.used, 0);
	}
}

// The same answers to every call and number that there is.
static void ready_programs_answer_the_same(void **state)
{
	static const uint64_t values[] = {0, 1, 2, 10, 16, 17, 40, 0x5411, TIOCSTI, TIOCLINUX,
		0x541d, CLONE_NEWUSER, CLONE_NEWNS | SIGCHLD, 0xffffffff, ~0ULL,
		TIOCSTI | 1ULL << 32};
	static const uint64_t sets[] = {JOB, 0};
	static const uint32_t arches[] = {NATIVE, FOREIGN, AUDIT_ARCH_S390X};

	(void)state;
	for (size_t s = 0; s < array_size(sets); s++) {
		cleanup_arena struct arena a = {0}, compiled = {0};
		struct runtime_seccomp profile;
		struct seccomp_program ready, fresh;
		struct error err;
		seccomp_default_profile(&a, sets[s], &profile);
		assert_int_equal(seccomp_compile(&a, &profile, &ready, &err), 0);
		profile.flags.count = 0; // another profile, the same program
		assert_int_equal(seccomp_compile(&compiled, &profile, &fresh, &err), 0);
		assert_true(compiled.used > 0 && fresh.filter != ready.filter);
		for (unsigned n = 0; n < array_size(arches) * (CALLS + 1) * array_size(values);
			n++) {
			uint64_t value = values[n % array_size(values)];
			struct seccomp_data data = {
				.nr = (int)(n / array_size(values) % (CALLS + 1)),
				.arch = arches[n / array_size(values) / (CALLS + 1)],
				.args = {value, value, value, value, value, value},
			};
			unsigned steps;
			uint32_t got = interpret(&ready, &data, &steps);
			if (got != interpret(&fresh, &data, &steps))
				fail_msg("call %d(%#llx): %#x", data.nr, (unsigned long long)value,
					got);
		}
	}
}

// ---- profiles from documents

static const char *const read_name[] = {"read", NULL};
#define READ                                                  \
	{                                                     \
		.items = (const char **)read_name, .count = 1 \
	}

static void refuses(void **state)
{
	static const char *names[] = {"SCMP_ARCH_VAX", "SECCOMP_FILTER_FLAG_X", "read", "nope"};
	static struct runtime_seccomp_argument bad_index = {6, 0, 0, "SCMP_CMP_EQ"},
					       bad_operator = {0, 0, 0, "SCMP_CMP_XX"},
					       no_operator = {0};
	static struct runtime_seccomp_rule rules[] = {
		{.names = READ, .action = "SCMP_ACT_NOTIFY"},
		{.names = READ, .action = "SCMP_ACT_X"},
		{.names = READ},
		{.action = "SCMP_ACT_ALLOW"},
		{.names = READ, .action = "SCMP_ACT_ALLOW", .has_errno = true, .errno_value = 1},
		{.names = READ, .action = "SCMP_ACT_ERRNO", .has_errno = true, .errno_value = 4096},
		{.names = READ,
			.action = "SCMP_ACT_ALLOW",
			.arguments = &bad_index,
			.argument_count = 1},
		{.names = READ,
			.action = "SCMP_ACT_ALLOW",
			.arguments = &bad_operator,
			.argument_count = 1},
		{.names = READ,
			.action = "SCMP_ACT_ALLOW",
			.arguments = &no_operator,
			.argument_count = 1},
	};
#define ONE(n) .default_action = "SCMP_ACT_KILL", .rules = &rules[n], .rule_count = 1
#define ONE_NAME(n)                            \
	{                                      \
		.items = &names[n], .count = 1 \
	}
	static const struct {
		struct runtime_seccomp profile;
		const char *expected;
	} cases[] = {
		{{.default_action = "SCMP_ACT_ALLOW", .listener_path = "/run/x"},
			"linux.seccomp.listenerPath: not supported"},
		{{.default_action = NULL}, "linux.seccomp.defaultAction: is missing"},
		{{.default_action = "ALLOW"}, "linux.seccomp.defaultAction: unknown action ALLOW"},
		{{.default_action = "SCMP_ACT_NOTIFY"},
			"linux.seccomp.defaultAction: SCMP_ACT_NOTIFY is not supported"},
		{{.default_action = "SCMP_ACT_KILL", .has_default_errno = true},
			"linux.seccomp.defaultErrnoRet: SCMP_ACT_KILL has no error number"},
		{{.default_action = "SCMP_ACT_TRACE",
			 .has_default_errno = true,
			 .default_errno = 65536},
			"linux.seccomp.defaultErrnoRet: 65536 is more than 65535"},
		{{.default_action = "SCMP_ACT_ALLOW", .architectures = ONE_NAME(0)},
			"linux.seccomp.architectures[0]: unknown architecture SCMP_ARCH_VAX"},
		{{.default_action = "SCMP_ACT_ALLOW", .architectures = ONE_NAME(2)},
			"linux.seccomp.architectures[0]: unknown architecture read"},
		{{.default_action = "SCMP_ACT_ALLOW", .flags = ONE_NAME(1)},
			"linux.seccomp.flags[0]: unknown flag SECCOMP_FILTER_FLAG_X"},
		{{ONE(0)}, "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY is not supported"},
		{{ONE(1)}, "linux.seccomp.syscalls[0].action: unknown action SCMP_ACT_X"},
		{{ONE(2)}, "linux.seccomp.syscalls[0].action: is missing"},
		{{ONE(3)}, "linux.seccomp.syscalls[0].names: is missing or empty"},
		{{ONE(4)},
			"linux.seccomp.syscalls[0].errnoRet: SCMP_ACT_ALLOW has no error number"},
		{{ONE(5)}, "linux.seccomp.syscalls[0].errnoRet: 4096 is more than 4095"},
		{{ONE(6)},
			"linux.seccomp.syscalls[0].args[0].index: a system call has 6 arguments, "
			"there is no 6"},
		{{ONE(7)}, "linux.seccomp.syscalls[0].args[0].op: unknown operator SCMP_CMP_XX"},
		{{ONE(8)}, "linux.seccomp.syscalls[0].args[0].op: is missing"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct seccomp_program p;
		struct error err = {0};
		if (seccomp_compile(&a, &cases[i].profile, &p, &err) == 0)
			fail_msg("accepted, not: %s", cases[i].expected);
		assert_string_equal(err.text, cases[i].expected);
		assert_int_equal(err.kind, ERROR_INVALID);
	}
}

// Every action and operator, with a name that nobody knows among the others.
static void compiles_documents(void **state)
{
	static const char *names[] = {"no_such_call", "read"};
	static const char *flags[] = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
		"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
	static const char *arches[] = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32",
		"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC64LE",
		"SCMP_ARCH_RISCV64"};
	static const struct {
		const char *name;
		uint32_t action;
	} actions[] = {
		{"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD},
		{"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD},
		{"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS},
		{"SCMP_ACT_TRAP", SECCOMP_RET_TRAP},
		{"SCMP_ACT_LOG", SECCOMP_RET_LOG},
		{"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO | EPERM},
		{"SCMP_ACT_TRACE", SECCOMP_RET_TRACE | EPERM},
		{"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW},
	};

	(void)state;
	for (size_t i = 0; i < array_size(actions); i++) {
		cleanup_arena struct arena a = {0};
		struct runtime_seccomp_rule rule = {
			.names = {names, array_size(names)}, .action = actions[i].name};
		const struct runtime_seccomp profile = {
			.default_action = "SCMP_ACT_ALLOW",
			.architectures = {arches, array_size(arches)},
			.flags = {flags, array_size(flags)},
			.rules = &rule,
			.rule_count = 1,
		};
		struct seccomp_program p;
		struct error err;
		unsigned steps;
		if (seccomp_compile(&a, &profile, &p, &err) < 0)
			fail_msg("%s: %s", actions[i].name, err.text);
		assert_int_equal(p.flags, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG);
		const struct seccomp_data read = {.nr = SYS_read, .arch = NATIVE},
					  write = {.nr = SYS_write, .arch = NATIVE},
					  stranger = {.nr = SYS_read, .arch = AUDIT_ARCH_S390};
		assert_int_equal(interpret(&p, &read, &steps), actions[i].action);
		assert_int_equal(interpret(&p, &write, &steps), SECCOMP_RET_ALLOW);
		// A list of what is forbidden says nothing of another table.
		assert_int_equal(interpret(&p, &stranger, &steps), SECCOMP_RET_KILL_PROCESS);
	}
}

static void compiles_operators(void **state)
{
	static const struct {
		const char *op;
		uint64_t value, two, yes, no;
	} cases[] = {
		{"SCMP_CMP_NE", 5, 0, 1ULL << 32 | 5, 5},
		{"SCMP_CMP_LT", 5, 0, 4, 5},
		{"SCMP_CMP_LE", 5, 0, 5, 6},
		{"SCMP_CMP_EQ", 5, 0, 5, 1ULL << 32 | 5},
		{"SCMP_CMP_GE", 1ULL << 32, 0, 1ULL << 32, 0xffffffff},
		{"SCMP_CMP_GT", 5, 0, 6, 5},
		{"SCMP_CMP_MASKED_EQ", 0xf0, 0x30, 0x1039, 0x20},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct runtime_seccomp_argument argument = {
			1, cases[i].value, cases[i].two, cases[i].op};
		struct runtime_seccomp_rule rule = {.names = READ,
			.action = "SCMP_ACT_ALLOW",
			.arguments = &argument,
			.argument_count = 1};
		const struct runtime_seccomp profile = {
			.default_action = "SCMP_ACT_ERRNO", .rules = &rule, .rule_count = 1};
		struct seccomp_program p;
		struct error err;
		assert_int_equal(seccomp_compile(&a, &profile, &p, &err), 0);
		ask(&p, NATIVE, &(struct question){SYS_read, {0, cases[i].yes}, 0, cases[i].op});
		ask(&p, NATIVE, &(struct question){SYS_read, {0, cases[i].no}, EPERM, cases[i].op});
	}
}

// libseccomp alone would take the first.
static void refuses_contradictions(void **state)
{
	struct runtime_seccomp_argument one = {0, 1, 0, "SCMP_CMP_EQ"};
	struct runtime_seccomp_rule rules[] = {
		{.names = READ, .action = "SCMP_ACT_ALLOW", .arguments = &one, .argument_count = 1},
		{.names = READ, .action = "SCMP_ACT_KILL", .arguments = &one, .argument_count = 1},
	};
	struct runtime_seccomp profile = {
		.default_action = "SCMP_ACT_ERRNO", .rules = rules, .rule_count = 2};
	cleanup_arena struct arena a = {0};
	struct seccomp_program p;
	struct error err;

	(void)state;
	assert_int_equal(seccomp_compile(&a, &profile, &p, &err), -1);
	assert_string_equal(
		err.text, "linux.seccomp.syscalls[1]: another rule for read says something else");
	rules[1].action = "SCMP_ACT_ALLOW"; // twice the same is none
	assert_int_equal(seccomp_compile(&a, &profile, &p, &err), 0);
	rules[1].action = "SCMP_ACT_ERRNO"; // the default's
	assert_int_equal(seccomp_compile(&a, &profile, &p, &err), 0);
}

#if defined(__x86_64__)
// A condition that cannot be checked for 32-bit programs opens nothing there, and restricts all.
static void socketcall_has_no_conditions(void **state)
{
	static const char *names[] = {"socket"}, *arches[] = {"SCMP_ARCH_X86"};
	static const struct question socketcall = {102, {1}, EPERM, "socketcall"};
	struct runtime_seccomp_argument one = {0, AF_UNIX, 0, "SCMP_CMP_EQ"};
	struct runtime_seccomp_rule rule = {.names = {names, 1},
		.action = "SCMP_ACT_ALLOW",
		.arguments = &one,
		.argument_count = 1};
	struct runtime_seccomp profile = {.default_action = "SCMP_ACT_ERRNO",
		.architectures = {arches, 1},
		.rules = &rule,
		.rule_count = 1};
	cleanup_arena struct arena a = {0};
	struct seccomp_program p;
	struct error err;

	(void)state;
	assert_int_equal(seccomp_compile(&a, &profile, &p, &err), 0);
	ask(&p, FOREIGN, &socketcall);
	ask(&p, NATIVE, &(struct question){SYS_socket, {AF_UNIX}, 0, "64 bit"});
	profile.default_action = "SCMP_ACT_ALLOW";
	rule.action = "SCMP_ACT_ERRNO";
	assert_int_equal(seccomp_compile(&a, &profile, &p, &err), 0);
	ask(&p, FOREIGN, &socketcall);
	ask(&p, NATIVE, &(struct question){SYS_socket, {AF_INET}, 0, "64 bit"});
}
#endif

static void one_argument_twice_is_a_choice(void **state)
{
	struct runtime_seccomp_argument either[] = {{0, 1, 0, "SCMP_CMP_EQ"},
		{0, 2, 0, "SCMP_CMP_EQ"}},
					both[] = {
						{0, 1, 0, "SCMP_CMP_EQ"}, {1, 2, 0, "SCMP_CMP_EQ"}};
	struct runtime_seccomp_rule rule = {.names = READ,
		.action = "SCMP_ACT_ALLOW",
		.arguments = either,
		.argument_count = 2};
	const struct runtime_seccomp profile = {
		.default_action = "SCMP_ACT_ERRNO", .rules = &rule, .rule_count = 1};
	cleanup_arena struct arena a = {0};
	struct seccomp_program p;
	struct error err;

	(void)state;
	assert_int_equal(seccomp_compile(&a, &profile, &p, &err), 0);
	ask(&p, NATIVE, &(struct question){SYS_read, {1, 0}, 0, "the first"});
	ask(&p, NATIVE, &(struct question){SYS_read, {2, 0}, 0, "the second"});
	ask(&p, NATIVE, &(struct question){SYS_read, {3, 0}, EPERM, "neither"});
	rule.arguments = both;
	assert_int_equal(seccomp_compile(&a, &profile, &p, &err), 0);
	ask(&p, NATIVE, &(struct question){SYS_read, {1, 2}, 0, "both"});
	ask(&p, NATIVE, &(struct question){SYS_read, {1, 0}, EPERM, "the first only"});
	ask(&p, NATIVE, &(struct question){SYS_read, {0, 2}, EPERM, "the second only"});
}

// ---- the kernel's own answers

static int system_call(const struct question *q)
{
	long rc = syscall(q->call, q->args[0], q->args[1], q->args[2], q->args[3]);
	return rc < 0 ? errno : 0;
}

static int live(const struct seccomp_program *p)
{
	static const struct question questions[] = {
		{SYS_getppid, {0}, 0, ""},
		{SYS_mount, {0}, EPERM, ""},
		{UNKNOWN_CALL, {0}, ENOSYS, ""},
		{SYS_clone3, {0}, ENOSYS, ""},
		{SYS_clone, {CLONE_NEWUSER}, EPERM, ""},
		{SYS_ioctl, {0, TIOCSTI | 1ULL << 32}, EPERM, ""},
		{SYS_socket, {AF_ALG}, EAFNOSUPPORT, ""},
		{SYS_personality, {0xffffffff}, 0, ""},
		{SYS_personality, {ADDR_NO_RANDOMIZE}, EPERM, ""},
	};
	struct error err;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || seccomp_install(p, &err) < 0)
		return 100;
	for (size_t i = 0; i < array_size(questions); i++)
		if (system_call(&questions[i]) != questions[i].expected)
			return 1 + (int)i;
	return 0;
}

static void kernel_takes_the_program(void **state)
{
	static const uint64_t sets[] = {JOB, 0, CAPABILITY(BPF), ~0ULL & ~CAPABILITY(SYS_ADMIN)};

	(void)state;
	for (size_t i = 0; i < array_size(sets); i++) {
		cleanup_arena struct arena a = {0};
		struct seccomp_program p;
		int status;
		if (i < 2)
			compile(&a, sets[i], &p);
		else
			compile_native(&a, sets[i], &p);
		pid_t pid = fork();
		if (pid == 0)
			_exit(live(&p));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

static void install_says_what_the_kernel_refuses(void **state)
{
	const struct seccomp_program empty = {0};
	struct error err;

	(void)state;
	assert_int_equal(seccomp_install(&empty, &err), -1);
	assert_string_equal(err.text, "install the system call filter: Invalid argument");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_a_job),
		cmocka_unit_test(answers_by_capability),
		cmocka_unit_test(answers_other_architectures),
		cmocka_unit_test(ready_programs_are_used),
		cmocka_unit_test(ready_programs_answer_the_same),
		cmocka_unit_test(refuses),
		cmocka_unit_test(compiles_documents),
		cmocka_unit_test(compiles_operators),
		cmocka_unit_test(refuses_contradictions),
#if defined(__x86_64__)
		cmocka_unit_test(socketcall_has_no_conditions),
#endif
		cmocka_unit_test(one_argument_twice_is_a_choice),
		cmocka_unit_test(kernel_takes_the_program),
		cmocka_unit_test(install_says_what_the_kernel_refuses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
