// SPDX-License-Identifier: Apache-2.0
//
// Which devices a group may open: on version 2 a program (BPF_PROG_TYPE_CGROUP_DEVICE) that the
// kernel runs at every open and mknod. It belongs to our group, besides any that systemd attaches
// to its own units, and every one of them must agree: so a reload of systemd cannot take a device
// away that we gave, and cannot give one either.
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/cgroup_internal.h"

#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { RULE_INSTRUCTIONS = 8, FRAME_INSTRUCTIONS = 16, ATTACHED_MAX = 64 };
enum { ACCESS_ALL = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE };
#define PROGRAM_NAME "stoker_devices" // 15 characters at most; how we know ours again

static int access_of(const struct runtime_device_rule *r)
{
	return (r->mknod ? BPF_DEVCG_ACC_MKNOD : 0) | (r->read ? BPF_DEVCG_ACC_READ : 0) |
	       (r->write ? BPF_DEVCG_ACC_WRITE : 0);
}

static bool is_about_all(const struct runtime_device_rule *r)
{
	return r->type == 'a' && r->major < 0 && r->minor < 0 && access_of(r) == ACCESS_ALL;
}

static int check_rules(const struct runtime_device_rules *rules, struct error *err)
{
	if (rules->count > CGROUP_DEVICE_RULES_MAX)
		return error_set(
			err, ERROR_LIMIT, "more than %d device rules", CGROUP_DEVICE_RULES_MAX);
	for (size_t i = 0; i < rules->count; i++) {
		const struct runtime_device_rule *r = &rules->items[i];
		if ((r->type != 'a' && r->type != 'b' && r->type != 'c') || r->major < -1 ||
			r->major > INT32_MAX || r->minor < -1 || r->minor > INT32_MAX)
			return error_set(
				err, ERROR_INVALID, "device rule %zu: no such device or type", i);
	}
	return 0;
}

// The program keeps in r3 the accesses that no rule has decided yet, and goes through the rules
// from the last one back; so "deny writing" after "allow all of it" leaves a wish to read and
// write denied, as it must.
enum {
	CONTEXT = BPF_REG_1,
	TYPE = BPF_REG_2,
	WISH = BPF_REG_3,
	MAJOR = BPF_REG_4,
	MINOR = BPF_REG_5,
	ANSWER = BPF_REG_0
};

static struct bpf_insn operate(int operation, int target, int32_t value)
{
	return (struct bpf_insn){.code = (uint8_t)(BPF_ALU | operation | BPF_K),
		.dst_reg = (uint8_t)target & 0xf,
		.imm = value};
}

static struct bpf_insn copy(int target, int source)
{
	return (struct bpf_insn){.code = BPF_ALU | BPF_MOV | BPF_X,
		.dst_reg = (uint8_t)target & 0xf,
		.src_reg = (uint8_t)source & 0xf};
}

static struct bpf_insn load(int target, size_t offset)
{
	return (struct bpf_insn){.code = BPF_LDX | BPF_MEM | BPF_W,
		.dst_reg = (uint8_t)target & 0xf,
		.src_reg = CONTEXT,
		.off = (int16_t)offset};
}

static struct bpf_insn jump(int condition, int tested, int32_t value)
{
	return (struct bpf_insn){.code = (uint8_t)(BPF_JMP | condition | BPF_K),
		.dst_reg = (uint8_t)tested & 0xf,
		.imm = value};
}

static size_t answer(struct bpf_insn *p, bool allow)
{
	p[0] = operate(BPF_MOV, ANSWER, allow);
	p[1] = (struct bpf_insn){.code = BPF_JMP | BPF_EXIT};
	return 2;
}

// One rule. Returns how many instructions it took; *final: nothing behind it is ever reached (the
// kernel refuses programs that hold such).
static size_t assemble_rule(const struct runtime_device_rule *r, struct bpf_insn *p, bool *final)
{
	const int access = access_of(r);
	size_t n = 0;
	if (r->type != 'a')
		p[n++] = jump(
			BPF_JNE, TYPE, r->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
	if (r->major >= 0)
		p[n++] = jump(BPF_JNE, MAJOR, (int32_t)r->major);
	if (r->minor >= 0)
		p[n++] = jump(BPF_JNE, MINOR, (int32_t)r->minor);
	*final = n == 0 && access == ACCESS_ALL;
	if (access != ACCESS_ALL && r->allow) {
		p[n++] = operate(BPF_AND, WISH, ACCESS_ALL & ~access);
		p[n++] = jump(BPF_JNE, WISH, 0);
	} else if (access != ACCESS_ALL) {
		p[n++] = copy(ANSWER, WISH);
		p[n++] = operate(BPF_AND, ANSWER, access);
		p[n++] = jump(BPF_JEQ, ANSWER, 0);
	}
	n += answer(p + n, r->allow);
	for (size_t i = 0; i < n; i++) // each condition that fails leads to the next rule
		if (BPF_CLASS(p[i].code) == BPF_JMP && p[i].code != (BPF_JMP | BPF_EXIT))
			p[i].off = (int16_t)(n - i - 1);
	return n;
}

int cgroup_device_program(struct arena *a, const struct runtime_device_rules *rules,
	struct bpf_insn **program, size_t *count, struct error *err)
{
	if (check_rules(rules, err) < 0)
		return -1;
	struct bpf_insn *p = arena_array(
		a, struct bpf_insn, rules->count * RULE_INSTRUCTIONS + FRAME_INSTRUCTIONS);
	size_t n = 0;
	p[n++] = load(TYPE, offsetof(struct bpf_cgroup_dev_ctx, access_type));
	p[n++] = copy(WISH, TYPE);
	p[n++] = operate(BPF_AND, TYPE, 0xffff);
	p[n++] = operate(BPF_RSH, WISH, 16);
	p[n++] = load(MAJOR, offsetof(struct bpf_cgroup_dev_ctx, major));
	p[n++] = load(MINOR, offsetof(struct bpf_cgroup_dev_ctx, minor));
	bool final = false;
	for (size_t i = rules->count; i-- > 0 && !final;)
		if (access_of(&rules->items[i]))
			n += assemble_rule(&rules->items[i], p + n, &final);
	if (!final)
		n += answer(p + n, true);
	*program = p;
	*count = n;
	return 0;
}

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int load_program(const struct bpf_insn *program, size_t count, struct error *err)
{
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insns = (uintptr_t)program,
		.insn_cnt = (uint32_t)count,
		.license = (uintptr_t) "Apache-2.0",
		.prog_name = PROGRAM_NAME,
		.expected_attach_type = BPF_CGROUP_DEVICE,
	};
	int fd = (int)bpf(BPF_PROG_LOAD, &attr);
	if (fd < 0)
		return error_set_errno(err, errno, "load the device program");
	return fd;
}

// The program that we attached before, or -1.
static int find_attached(int dir)
{
	uint32_t ids[ATTACHED_MAX];
	union bpf_attr attr = {.query = {.target_fd = (uint32_t)dir,
				       .attach_type = BPF_CGROUP_DEVICE,
				       .prog_ids = (uintptr_t)ids,
				       .prog_cnt = ATTACHED_MAX}};
	if (bpf(BPF_PROG_QUERY, &attr) < 0)
		return -1;
	for (uint32_t i = 0; i < attr.query.prog_cnt && i < ATTACHED_MAX; i++) {
		union bpf_attr by_id = {.prog_id = ids[i]};
		struct bpf_prog_info info = {0};
		cleanup_fd int fd = (int)bpf(BPF_PROG_GET_FD_BY_ID, &by_id);
		union bpf_attr ask = {.info = {.bpf_fd = (uint32_t)fd,
					      .info_len = sizeof(info),
					      .info = (uintptr_t)&info}};
		if (fd >= 0 && bpf(BPF_OBJ_GET_INFO_BY_FD, &ask) == 0 &&
			streq(info.name, PROGRAM_NAME))
			return steal_fd(&fd);
	}
	return -1;
}

int cgroup_device_attach(
	int dir, const struct runtime_device_rules *rules, bool fresh, struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct bpf_insn *program;
	size_t count;
	if (cgroup_device_program(&a, rules, &program, &count, err) < 0)
		return -1;
	cleanup_fd int fd = load_program(program, count, err);
	if (fd < 0)
		return -1;
	cleanup_fd int old = fresh ? -1 : find_attached(dir);
	// In one step: there is no moment without one of the two.
	union bpf_attr attr = {.target_fd = (uint32_t)dir,
		.attach_bpf_fd = (uint32_t)fd,
		.attach_type = BPF_CGROUP_DEVICE,
		.attach_flags = BPF_F_ALLOW_MULTI | (old >= 0 ? BPF_F_REPLACE : 0U),
		.replace_bpf_fd = old >= 0 ? (uint32_t)old : 0U};
	if (bpf(BPF_PROG_ATTACH, &attr) < 0)
		return error_set_errno(err, errno, "attach the device program");
	return 0;
}

// Version 1 knows a default and exceptions of it. A rule that goes back to the default takes
// exactly the same exception away, and one that would cut a piece out of it is ignored silently.
static int check_exceptions(
	const struct runtime_device_rules *rules, size_t first, size_t last, struct error *err)
{
	const struct runtime_device_rule *r = &rules->items[last];
	for (size_t i = first; i < last; i++) {
		const struct runtime_device_rule *x = &rules->items[i];
		bool apart = (r->type != x->type && r->type != 'a' && x->type != 'a') ||
			     (r->major != x->major && r->major >= 0 && x->major >= 0) ||
			     (r->minor != x->minor && r->minor >= 0 && x->minor >= 0) ||
			     !(access_of(r) & access_of(x));
		bool same = r->type == x->type && r->major == x->major && r->minor == x->minor;
		if (r->allow != x->allow && !apart && !same)
			return error_set(err, ERROR_INVALID,
				"device rule %zu takes a part of rule %zu back, which cgroup "
				"version 1 cannot keep",
				last, i);
	}
	return 0;
}

static const char *number(struct arena *a, int64_t n)
{
	return n < 0 ? "*" : arena_printf(a, "%d", (int)n);
}

static void add_line(
	struct arena *a, const struct runtime_device_rule *r, char type, struct cgroup_settings *s)
{
	// To give what the parent does not have is refused, and a device too few is no danger.
	cgroup_setting_add(s, CONTROLLER_DEVICES, r->allow ? SETTING_PLAIN : SETTING_REQUIRED,
		r->allow ? "devices.allow" : "devices.deny",
		arena_printf(a, "%c %s:%s %s%s%s", type, number(a, r->major), number(a, r->minor),
			r->read ? "r" : "", r->write ? "w" : "", r->mknod ? "m" : ""));
}

int cgroup_device_settings(struct arena *a, const struct runtime_device_rules *rules,
	struct cgroup_settings *s, struct error *err)
{
	if (check_rules(rules, err) < 0)
		return -1;
	size_t first =
		rules->count; // all before the last that speaks of everything is without effect
	while (first > 0 && !is_about_all(&rules->items[first - 1]))
		first--;
	if (first > 0)
		cgroup_setting_add(s, CONTROLLER_DEVICES, SETTING_REQUIRED,
			rules->items[first - 1].allow ? "devices.allow" : "devices.deny", "a");
	for (size_t i = first; i < rules->count; i++) {
		const struct runtime_device_rule *r = &rules->items[i];
		if (!access_of(r))
			continue;
		if (check_exceptions(rules, first, i, err) < 0)
			return -1;
		// To the kernel's parser 'a' means everything, whatever stands behind it.
		if (r->type != 'b')
			add_line(a, r, 'c', s);
		if (r->type != 'c')
			add_line(a, r, 'b', s);
	}
	return 0;
}

void cgroup_default_devices(struct arena *a, struct runtime_device_rules *rules)
{
	static const struct runtime_device_rule defaults[] = {
		{.allow = false, 'a', -1, -1, true, true, true},
		{.allow = true, 'c', 1, 3, .read = true, .write = true},    // null
		{.allow = true, 'c', 1, 5, .read = true, .write = true},    // zero
		{.allow = true, 'c', 1, 7, .read = true, .write = true},    // full
		{.allow = true, 'c', 1, 8, .read = true, .write = true},    // random
		{.allow = true, 'c', 1, 9, .read = true, .write = true},    // urandom
		{.allow = true, 'c', 5, 0, .read = true, .write = true},    // tty
		{.allow = true, 'c', 5, 2, .read = true, .write = true},    // ptmx
		{.allow = true, 'c', 136, -1, .read = true, .write = true}, // pts/*
	};
	*rules = (struct runtime_device_rules){
		arena_array(a, struct runtime_device_rule, array_size(defaults)),
		array_size(defaults)};
	memcpy(rules->items, defaults, sizeof(defaults));
}
