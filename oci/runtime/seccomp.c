// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/seccomp.h"

#include "base/file.h"
#include "oci/runtime/seccomp_decode.h"
#include "oci/runtime/seccomp_ready.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FILTERS_MAX = 8, CALL_ARGUMENTS = 6 };

// One filter for each architecture, until they are merged. With several in one, libseccomp takes
// conditions for granted where an architecture cannot check them, and passes over contradictions.
struct compiler {
	struct arena *arena;
	const struct runtime_seccomp *profile;
	uint32_t default_action;
	scmp_filter_ctx filters[FILTERS_MAX];
	size_t count;
};

static void compiler_release(struct compiler *c)
{
	for (size_t i = 0; i < c->count; i++)
		seccomp_release(c->filters[i]);
}

static int failed(const char *what, int code, struct error *err)
{
	return error_set_errno(err, -code, "seccomp: %s", what);
}

struct conditions {
	struct scmp_arg_cmp *items;
	size_t count;
	bool alternatives; // one suffices
};

// All must hold, save where one argument is named twice, which libseccomp cannot: then the other
// runtimes take them as alternatives, and profiles are written for that.
static int decode_arguments(struct arena *a, const char *place,
	const struct runtime_seccomp_rule *rule, struct conditions *c, struct error *err)
{
	unsigned seen[CALL_ARGUMENTS] = {0};
	c->items = arena_array(a, struct scmp_arg_cmp, rule->argument_count + 1);
	for (size_t i = 0; i < rule->argument_count; i++) {
		const struct runtime_seccomp_argument *argument = &rule->arguments[i];
		const char *own = arena_printf(a, "%s.args[%zu]", place, i);
		if (seccomp_decode_argument(own, argument, &c->items[i], err) < 0)
			return -1;
		c->alternatives |= seen[argument->index]++ > 0;
	}
	c->count = rule->argument_count;
	return 0;
}

// What a 32-bit x86 program hands to socketcall(2) and ipc(2) lies in memory, where no filter
// looks. Libseccomp can leave the condition out there: right for what restricts, wrong for what
// allows.
static int add_one(scmp_filter_ctx filter, uint32_t action, int call,
	const struct scmp_arg_cmp *conditions, size_t count)
{
	int code = seccomp_rule_add_exact_array(filter, action, call, (unsigned)count, conditions);
	if (code == -EDOM) // this architecture has no such call
		return 0;
	if (code != -EINVAL || count == 0)
		return code;
	if (action == SCMP_ACT_ALLOW || action == SCMP_ACT_LOG)
		return 0;
	return seccomp_rule_add_array(filter, action, call, (unsigned)count, conditions);
}

static int add_call(scmp_filter_ctx filter, uint32_t action, int call, const struct conditions *c)
{
	if (!c->alternatives)
		return add_one(filter, action, call, c->items, c->count);
	int code = 0;
	for (size_t i = 0; i < c->count && code == 0; i++)
		code = add_one(filter, action, call, &c->items[i], 1);
	return code;
}

static int add_name(const struct compiler *c, const char *place, const char *name, uint32_t action,
	const struct conditions *conditions, struct error *err)
{
	int call = seccomp_syscall_resolve_name(name);
	if (call == __NR_SCMP_ERROR)
		return 0;
	for (size_t i = 0; i < c->count; i++) {
		int code = add_call(c->filters[i], action, call, conditions);
		if (code == -EEXIST)
			return error_set(err, ERROR_INVALID,
				"%s: another rule for %s says something else", place, name);
		if (code < 0)
			return failed(name, code, err);
	}
	return 0;
}

static int add_rule(const struct compiler *c, size_t index, struct error *err)
{
	const struct runtime_seccomp_rule *rule = &c->profile->rules[index];
	const char *place = arena_printf(c->arena, "linux.seccomp.syscalls[%zu]", index);
	const struct seccomp_action decoded = {
		place, "action", "errnoRet", rule->action, rule->has_errno, rule->errno_value};
	struct conditions conditions = {0};
	uint32_t action;
	if (seccomp_decode_action(&decoded, &action, err) < 0 ||
		decode_arguments(c->arena, place, rule, &conditions, err) < 0)
		return -1;
	if (rule->names.count == 0)
		return error_set(err, ERROR_INVALID, "%s.names: is missing or empty", place);
	if (action == c->default_action) // which libseccomp refuses
		return 0;
	for (size_t i = 0; i < rule->names.count; i++)
		if (add_name(c, place, rule->names.items[i], action, &conditions, err) < 0)
			return -1;
	return 0;
}

static int add_filter(struct compiler *c, struct error *err)
{
	scmp_filter_ctx filter = seccomp_init(c->default_action);
	if (!filter)
		return error_set(err, ERROR_SYSTEM, "seccomp_init failed");
	c->filters[c->count++] = filter;
	// A call by the table of an architecture that the profile does not name: never more than by
	// default. Where that is to allow, the filter lists what is forbidden, by other numbers.
	bool lenient = c->default_action == SCMP_ACT_ALLOW || c->default_action == SCMP_ACT_LOG;
	int code = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH,
		lenient ? SCMP_ACT_KILL_PROCESS : c->default_action);
	// A binary tree instead of a list; where libseccomp cannot, the list does as well.
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	return code < 0 ? failed("set attributes", code, err) : 0;
}

// The native one is always there, and first.
static int add_filters(struct compiler *c, struct error *err)
{
	const struct json_strings *names = &c->profile->architectures;
	uint32_t seen[FILTERS_MAX] = {seccomp_arch_native()};
	if (add_filter(c, err) < 0)
		return -1;
	for (size_t i = 0; i < names->count; i++) {
		uint32_t token = seccomp_decode_architecture(names->items[i]);
		size_t k = 0;
		if (!token)
			return error_set(err, ERROR_INVALID,
				"linux.seccomp.architectures[%zu]: unknown architecture %s", i,
				names->items[i]);
		while (k < c->count && seen[k] != token)
			k++;
		if (k < c->count)
			continue;
		if (k == FILTERS_MAX)
			return error_set(err, ERROR_LIMIT,
				"linux.seccomp.architectures: more than %d", FILTERS_MAX);
		seen[k] = token;
		if (add_filter(c, err) < 0)
			return -1;
		int code = seccomp_arch_remove(c->filters[k], seccomp_arch_native());
		code = code < 0 ? code : seccomp_arch_add(c->filters[k], token);
		if (code < 0)
			return failed(names->items[i], code, err);
	}
	return 0;
}

// Into the first one. What is merged belongs to it.
static int merge(struct compiler *c, struct error *err)
{
	while (c->count > 1) {
		int code = seccomp_merge(c->filters[0], c->filters[c->count - 1]);
		if (code == -EDOM || code == -EINVAL)
			return error_set(err, ERROR_INVALID,
				"linux.seccomp.architectures: of different byte orders");
		if (code < 0)
			return failed("merge", code, err);
		c->count--;
	}
	return 0;
}

static int export(
	scmp_filter_ctx filter, struct arena *a, struct seccomp_program *program, struct error *err)
{
	struct stat st;
	cleanup_fd int fd = memfd_create("seccomp", MFD_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "memfd_create");
	int code = seccomp_export_bpf(filter, fd);
	if (code < 0)
		return failed("compile", code, err);
	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "stat the seccomp program");
	size_t size = (size_t)st.st_size;
	if (size / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return error_set(err, ERROR_LIMIT,
			"linux.seccomp: makes %zu instructions, the kernel takes %d",
			size / sizeof(struct sock_filter), BPF_MAXINSNS);
	void *filter_copy = arena_alloc(a, size);
	if (pread(fd, filter_copy, size, 0) != st.st_size)
		return error_set_errno(err, errno, "read the seccomp program");
	program->filter = filter_copy;
	program->size = size;
	return 0;
}

static int compile(struct arena *a, const struct runtime_seccomp *profile,
	struct seccomp_program *program, struct error *err)
{
	const struct seccomp_action decoded = {"linux.seccomp", "defaultAction", "defaultErrnoRet",
		profile->default_action, profile->has_default_errno, profile->default_errno};
	__attribute__((cleanup(compiler_release))) struct compiler c = {a, profile};
	if (seccomp_decode_action(&decoded, &c.default_action, err) < 0 || add_filters(&c, err) < 0)
		return -1;
	for (size_t i = 0; i < profile->rule_count; i++)
		if (add_rule(&c, i, err) < 0)
			return -1;
	if (merge(&c, err) < 0)
		return -1;
	return export(c.filters[0], a, program, err);
}

static bool find_ready(const struct runtime_seccomp *profile, struct seccomp_program *program)
{
	uint64_t fingerprint = seccomp_ready_count ? seccomp_fingerprint(profile) : 0;
	for (size_t i = 0; i < seccomp_ready_count; i++) {
		if (seccomp_ready[i].fingerprint != fingerprint)
			continue;
		program->filter = seccomp_ready[i].filter;
		program->size = seccomp_ready[i].size;
		return true;
	}
	return false;
}

int seccomp_compile(struct arena *a, const struct runtime_seccomp *profile,
	struct seccomp_program *program, struct error *err)
{
	struct seccomp_program made = {0};
	if (profile->listener_path)
		return error_set(err, ERROR_INVALID, "linux.seccomp.listenerPath: not supported");
	if (seccomp_decode_flags(&profile->flags, &made.flags, err) < 0)
		return -1;
	if (!find_ready(profile, &made) && compile(a, profile, &made, err) < 0)
		return -1;
	*program = made;
	return 0;
}

int seccomp_install(const struct seccomp_program *program, struct error *err)
{
	const struct sock_fprog prog = {
		.len = (unsigned short)(program->size / sizeof(struct sock_filter)),
		.filter = (struct sock_filter *)program->filter,
	};
	// With TSYNC a positive number is the thread that cannot take the filter.
	long rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, program->flags, &prog);
	if (rc > 0)
		return error_set(err, ERROR_SYSTEM,
			"install the system call filter: thread %ld has another one", rc);
	return rc < 0 ? error_set_errno(err, errno, "install the system call filter") : 0;
}
