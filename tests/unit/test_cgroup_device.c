// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"
#include "oci/runtime/cgroup_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { R = BPF_DEVCG_ACC_READ, W = BPF_DEVCG_ACC_WRITE, M = BPF_DEVCG_ACC_MKNOD, RW = R | W };
enum { STEPS_MAX = 100000 };

static uint32_t load(const struct bpf_cgroup_dev_ctx *context, int offset)
{
	uint32_t value;
	assert_in_range(offset, 0, sizeof(*context) - sizeof(value));
	memcpy(&value, (const char *)context + offset, sizeof(value));
	return value;
}

// A processor of the few instructions that the program is made of, as the kernel defines them.
static bool run(const struct bpf_insn *program, size_t count, struct bpf_cgroup_dev_ctx context)
{
	uint64_t r[11] = {0};
	size_t at = 0;
	for (int steps = 0; steps < STEPS_MAX; steps++) {
		assert_true(at < count); // else it ran over its end
		const struct bpf_insn *i = &program[at++];
		switch (i->code) {
		case BPF_LDX | BPF_MEM | BPF_W:
			assert_int_equal(i->src_reg, BPF_REG_1);
			r[i->dst_reg] = load(&context, i->off);
			break;
		case BPF_ALU | BPF_MOV | BPF_X:
			r[i->dst_reg] = (uint32_t)r[i->src_reg];
			break;
		case BPF_ALU | BPF_MOV | BPF_K:
			r[i->dst_reg] = (uint32_t)i->imm;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			r[i->dst_reg] = (uint32_t)r[i->dst_reg] & (uint32_t)i->imm;
			break;
		case BPF_ALU | BPF_RSH | BPF_K:
			r[i->dst_reg] = (uint32_t)r[i->dst_reg] >> i->imm;
			break;
		case BPF_JMP | BPF_JNE | BPF_K:
			at += r[i->dst_reg] != (uint64_t)(int64_t)i->imm ? (size_t)i->off : 0;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			at += r[i->dst_reg] == (uint64_t)(int64_t)i->imm ? (size_t)i->off : 0;
			break;
		case BPF_JMP | BPF_EXIT:
			return r[0] != 0;
		default:
			fail_msg("unknown instruction %#x", i->code);
		}
	}
	fail_msg("the program does not end");
	return false;
}

// What the rules mean, written as plainly as it can be: each access by itself, the last rule wins.
static bool decide(const struct runtime_device_rules *rules, char type, uint32_t major,
	uint32_t minor, int access)
{
	for (int bit = 1; bit <= 4; bit <<= 1) {
		bool allowed = true;
		for (size_t i = 0; i < rules->count; i++) {
			const struct runtime_device_rule *r = &rules->items[i];
			bool speaks = (bit == R && r->read) || (bit == W && r->write) ||
				      (bit == M && r->mknod);
			if (speaks && (r->type == 'a' || r->type == type) &&
				(r->major < 0 || r->major == major) &&
				(r->minor < 0 || r->minor == minor))
				allowed = r->allow;
		}
		if (access & bit && !allowed)
			return false;
	}
	return true;
}

static bool ask(const struct runtime_device_rules *rules, char type, uint32_t major, uint32_t minor,
	int access)
{
	cleanup_arena struct arena a = {0};
	struct bpf_insn *program;
	size_t count;
	struct error err = {0};
	if (cgroup_device_program(&a, rules, &program, &count, &err) < 0)
		fail_msg("%s", err.text);
	uint32_t kind = type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR;
	return run(program, count,
		(struct bpf_cgroup_dev_ctx){(uint32_t)access << 16 | kind, major, minor});
}

static void allows_by_default(void **state)
{
	static const struct {
		char type;
		uint32_t major, minor;
		int access;
		bool allowed;
		const char *why;
	} cases[] = {
		{'c', 1, 3, RW, true, "null"},
		{'c', 1, 5, R, true, "zero"},
		{'c', 1, 7, W, true, "full"},
		{'c', 1, 8, RW, true, "random"},
		{'c', 1, 9, RW, true, "urandom"},
		{'c', 5, 0, RW, true, "tty"},
		{'c', 5, 2, RW, true, "ptmx"},
		{'c', 136, 0, RW, true, "pts/0"},
		{'c', 136, 99999, RW, true, "pts/99999"},
		{'c', 1, 3, M, false, "another null"},
		{'c', 1, 3, RW | M, false, "another null, opened as well"},
		{'c', 1, 1, R, false, "mem"},
		{'c', 1, 11, RW, false, "kmsg"},
		{'c', 5, 1, RW, false, "console"},
		{'c', 10, 229, RW, false, "fuse"},
		{'c', 195, 0, RW, false, "a GPU"},
		{'b', 1, 3, R, false, "the numbers of null, but of blocks"},
		{'b', 8, 0, R, false, "a disk"},
		{'b', 7, 0, M, false, "a loop device"},
	};
	cleanup_arena struct arena a = {0};
	struct runtime_device_rules rules;
	(void)state;
	cgroup_default_devices(&a, &rules);
	for (size_t i = 0; i < array_size(cases); i++)
		if (ask(&rules, cases[i].type, cases[i].major, cases[i].minor, cases[i].access) !=
			cases[i].allowed)
			fail_msg("%s: must %sbe allowed", cases[i].why,
				cases[i].allowed ? "" : "not ");
}

static void takes_parts_away(void **state)
{
	struct runtime_device_rule items[] = {
		{.allow = true, 'c', 1, -1, true, true, true},
		{.allow = false, 'c', 1, 3, .write = true},
	};
	const struct runtime_device_rules rules = {items, array_size(items)};
	(void)state;
	assert_true(ask(&rules, 'c', 1, 3, R));
	assert_false(ask(&rules, 'c', 1, 3, W));
	assert_false(ask(&rules, 'c', 1, 3, RW)); // one of the two is not allowed
	assert_true(ask(&rules, 'c', 1, 5, RW));
	assert_true(ask(&rules, 'b', 8, 0, RW)); // of which no rule speaks
	assert_true(ask(&(struct runtime_device_rules){0}, 'b', 8, 0, RW | M));
}

// Random rules over few devices, so that they meet often, against the plain reading.
static void decides_as_written(void **state)
{
	static const char types[] = "abc";
	uint32_t seed = 1;
	(void)state;
	for (int round = 0; round < 300; round++) {
		struct runtime_device_rule items[6];
		for (size_t i = 0; i < array_size(items); i++) {
			seed = seed * 1664525 + 1013904223;
			uint32_t n = seed >> 8;
			items[i] = (struct runtime_device_rule){.allow = n & 1,
				.type = types[n >> 1 & 3 ? (n >> 1 & 3) - 1 : 0],
				.major = (int64_t)(n >> 3 & 3) - 1,
				.minor = (int64_t)(n >> 5 & 3) - 1,
				.read = n >> 7 & 1,
				.write = n >> 8 & 1,
				.mknod = n >> 9 & 1};
			if (n >> 10 & 1)
				items[i].read = items[i].write = items[i].mknod = true;
		}
		const struct runtime_device_rules rules = {
			items, 1 + (size_t)round % array_size(items)};
		for (uint32_t k = 0; k < 2 * 3 * 3 * 7; k++) {
			char type = k % 2 ? 'b' : 'c';
			uint32_t major = k / 2 % 3, minor = k / 6 % 3;
			int access = 1 + (int)(k / 18);
			if (ask(&rules, type, major, minor, access) !=
				decide(&rules, type, major, minor, access))
				fail_msg("round %d: %c %u:%u access %d", round, type, major, minor,
					access);
		}
	}
}

static void refuses_rules(void **state)
{
	static struct runtime_device_rule many[CGROUP_DEVICE_RULES_MAX + 1];
	struct runtime_device_rule bad[] = {{.type = 'p', .major = 1, .minor = 1},
		{.type = 'c', .major = -2, .minor = 1},
		{.type = 'c', .major = 1, .minor = 1LL << 31}};
	cleanup_arena struct arena a = {0};
	struct bpf_insn *program;
	size_t count;
	struct error err = {0};
	(void)state;
	for (size_t i = 0; i < array_size(bad); i++) {
		const struct runtime_device_rules one = {&bad[i], 1};
		assert_int_equal(cgroup_device_program(&a, &one, &program, &count, &err), -1);
		assert_string_equal(err.text, "device rule 0: no such device or type");
	}
	for (size_t i = 0; i < array_size(many); i++)
		many[i] = (struct runtime_device_rule){
			.type = 'c', .minor = (int64_t)i, .read = true};
	struct runtime_device_rules all = {many, array_size(many)};
	assert_int_equal(cgroup_device_program(&a, &all, &program, &count, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	all.count--;
	assert_int_equal(cgroup_device_program(&a, &all, &program, &count, &err), 0);
}

static void writes_lines_of_v1(void **state)
{
	static const struct {
		const char *why;
		struct runtime_device_rule items[4];
		size_t count;
		const char *expected;
	} cases[] = {
		{"all before the last that speaks of everything is without effect",
			{{true, 'c', 1, 1, true, true, true},
				{false, 'a', -1, -1, true, true, true},
				{true, 'c', 1, 3, true, true, false},
				{true, 'b', 8, -1, true, false, false}},
			4, "devices.deny=a;devices.allow=c 1:3 rw;devices.allow=b 8:* r;"},
		{"to the kernel's parser 'a' is everything",
			{{false, 'a', 1, 3, true, false, false}}, 1,
			"devices.deny=c 1:3 r;devices.deny=b 1:3 r;"},
		{"exactly the same goes back",
			{{false, 'a', -1, -1, true, true, true},
				{true, 'c', 1, 3, true, true, false},
				{false, 'c', 1, 3, false, true, false}},
			3, "devices.deny=a;devices.allow=c 1:3 rw;devices.deny=c 1:3 w;"},
		{"a part does not",
			{{false, 'a', -1, -1, true, true, true},
				{true, 'c', 1, -1, true, true, false},
				{false, 'c', 1, 3, false, true, false}},
			3,
			"device rule 2 takes a part of rule 1 back, which cgroup version 1 cannot "
			"keep"},
		{"another access is no part",
			{{false, 'a', -1, -1, true, true, true},
				{true, 'c', 1, -1, true, false, false},
				{false, 'c', 1, 3, false, true, false}},
			3, "devices.deny=a;devices.allow=c 1:* r;devices.deny=c 1:3 w;"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		cleanup_buffer struct buffer text = {0};
		struct runtime_device_rule items[4];
		memcpy(items, cases[i].items, sizeof(items));
		const struct runtime_resources r = {.devices = {items, cases[i].count}};
		struct cgroup_settings s;
		struct error err = {0};
		cgroup_settings_init(&s, &a, &r);
		print_message("%s\n", cases[i].why);
		if (cgroup_device_settings(&a, &r.devices, &s, &err) < 0)
			buffer_puts(&text, err.text);
		else
			for (size_t k = 0; k < s.count; k++)
				buffer_printf(&text, "%s=%s;", s.items[k].file, s.items[k].value);
		assert_string_equal(text.data, cases[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allows_by_default),
		cmocka_unit_test(takes_parts_away),
		cmocka_unit_test(decides_as_written),
		cmocka_unit_test(refuses_rules),
		cmocka_unit_test(writes_lines_of_v1),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
