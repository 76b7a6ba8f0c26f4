// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"
#include "oci/runtime/cgroup_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { MIB = 1024 * 1024 };

// "file=value;" of each, in order; '|' before what is tried only in place of the one before, '!'
// before what must not fail.
static void compare(const struct runtime_resources *r, bool v2, const char *expected)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer text = {0}, warnings = {0};
	struct cgroup_settings s;
	struct error err = {0};
	cgroup_settings_init(&s, &a, r);
	int rc = v2 ? cgroup_v2_settings(&a, r, &s, &warnings, &err)
		    : cgroup_v1_settings(&a, r, &s, &warnings, &err);
	if (rc < 0)
		buffer_printf(&text, "%s: %s", error_kind_name(err.kind), err.text);
	for (size_t i = 0; rc == 0 && i < s.count; i++)
		buffer_printf(&text, "%s%s=%s;",
			s.items[i].kind == SETTING_INSTEAD    ? "|"
			: s.items[i].kind == SETTING_REQUIRED ? "!"
							      : "",
			s.items[i].file, s.items[i].value);
	if (warnings.size)
		buffer_printf(&text, "warning: %s", warnings.data);
	assert_string_equal(text.size ? text.data : "", expected);
}

static void computes(void **state)
{
	static struct runtime_throttle disk[] = {{8, 0, 1000}};
	static struct runtime_hugepage_limit huge[] = {{"2MB", 4096}}, evil[] = {{"2MB/../x", 1}};
	static struct json_pair unified[] = {{"memory.high", "5"}, {"io.max", "8:0 rbps=1"}};
	static struct json_pair core[] = {{"cgroup.procs", "1"}}, up[] = {{"memory.max/../x", "1"}};
	static struct json_pair strange[] = {{"misc.max", "1"}};
	static const struct {
		const char *why;
		struct runtime_resources r;
		const char *v1, *v2;
	} cases[] = {
		{"nothing", {.pids_limit = 0}, "", ""},
		{"memory without swap", {.memory_limit = MIB, .memory_swap = MIB},
			"memory.limit_in_bytes=1048576;memory.memsw.limit_in_bytes=1048576;",
			"memory.max=1048576;memory.oom.group=1;memory.swap.max=0;"},
		{"swap beside memory",
			{.memory_limit = MIB, .memory_swap = 3 * MIB, .memory_reservation = 7},
			"memory.limit_in_bytes=1048576;memory.memsw.limit_in_bytes=3145728;"
			"memory.soft_limit_in_bytes=7;",
			"memory.max=1048576;memory.oom.group=1;memory.swap.max=2097152;"
			"memory.low=7;"},
		{"limits taken away",
			{.memory_limit = RUNTIME_UNLIMITED,
				.memory_swap = RUNTIME_UNLIMITED,
				.cpu_quota = RUNTIME_UNLIMITED,
				.pids_limit = RUNTIME_UNLIMITED},
			"memory.limit_in_bytes=-1;memory.memsw.limit_in_bytes=-1;"
			"cpu.cfs_quota_us=-1;pids.max=max;",
			"memory.max=max;memory.oom.group=0;memory.swap.max=max;cpu.max=max "
			"100000;pids.max=max;"},
		{"swap below memory", {.memory_limit = 2, .memory_swap = 1},
			"invalid: memory.swap (1) is memory and swap together, and less than "
			"memory.limit (2)",
			"invalid: memory.swap (1) is memory and swap together, and less than "
			"memory.limit (2)"},
		{"swap alone", {.memory_swap = 1},
			"invalid: memory.swap is memory and swap together, and needs memory.limit",
			"invalid: memory.swap is memory and swap together, and needs memory.limit"},
		{"the whole, and no limit of swap",
			{.memory_limit = 2, .memory_swap = RUNTIME_UNLIMITED},
			"memory.limit_in_bytes=2;memory.memsw.limit_in_bytes=-1;",
			"memory.max=2;memory.oom.group=1;memory.swap.max=max;"},
		{"no killer", {.disable_oom_killer = true}, "memory.oom_control=1;",
			"warning: disableOOMKiller cannot be kept here: cgroup version 2 has no "
			"such thing\n"},
		{"processor", {.cpu_shares = 1024, .cpu_quota = 50000, .cpu_period = 20000},
			"cpu.shares=1024;cpu.cfs_period_us=20000;cpu.cfs_quota_us=50000;",
			"cpu.weight=39;cpu.max=50000 20000;"},
		{"quota in the usual period", {.cpu_quota = 50000}, "cpu.cfs_quota_us=50000;",
			"cpu.max=50000 100000;"},
		{"a period alone", {.cpu_period = 20000}, "cpu.cfs_period_us=20000;",
			"cpu.max=max 20000;"},
		{"least shares", {.cpu_shares = 2}, "cpu.shares=2;", "cpu.weight=1;"},
		{"fewer than the least", {.cpu_shares = 1}, "cpu.shares=1;", "cpu.weight=1;"},
		{"most shares", {.cpu_shares = 262144}, "cpu.shares=262144;", "cpu.weight=10000;"},
		{"more than the most", {.cpu_shares = 1 << 20}, "cpu.shares=1048576;",
			"cpu.weight=10000;"},
		{"processors", {.cpus = "0-1", .mems = "0"}, "cpuset.cpus=0-1;cpuset.mems=0;",
			"cpuset.cpus=0-1;cpuset.mems=0;"},
		{"processes", {.pids_limit = 10}, "pids.max=10;", "pids.max=10;"},
		{"least weight of I/O", {.block_weight = 10},
			"blkio.bfq.weight=10;|blkio.weight=10;", "io.bfq.weight=10;|io.weight=1;"},
		{"most weight of I/O", {.block_weight = 1000},
			"blkio.bfq.weight=1000;|blkio.weight=1000;",
			"io.bfq.weight=1000;|io.weight=10000;"},
		{"throttles",
			{.read_bytes = {disk, 1},
				.write_bytes = {disk, 1},
				.read_operations = {disk, 1},
				.write_operations = {disk, 1}},
			"blkio.throttle.read_bps_device=8:0 1000;"
			"blkio.throttle.write_bps_device=8:0 1000;"
			"blkio.throttle.read_iops_device=8:0 1000;"
			"blkio.throttle.write_iops_device=8:0 1000;",
			"io.max=8:0 rbps=1000;io.max=8:0 wbps=1000;io.max=8:0 riops=1000;"
			"io.max=8:0 wiops=1000;"},
		{"huge pages", {.hugepages = huge, .hugepage_count = 1},
			"hugetlb.2MB.limit_in_bytes=4096;", "hugetlb.2MB.max=4096;"},
		{"a size that leads elsewhere", {.hugepages = evil, .hugepage_count = 1},
			"invalid: page size 2MB/../x: no such",
			"invalid: page size 2MB/../x: no such"},
		{"files by name, with the last word", {.unified = {unified, 2}, .pids_limit = 1},
			"invalid: unified.memory.high: this machine has no cgroup version 2",
			"pids.max=1;!memory.high=5;!io.max=8:0 rbps=1;"},
		{"a file that moves processes", {.unified = {core, 1}},
			"invalid: unified.cgroup.procs: this machine has no cgroup version 2",
			"invalid: unified.cgroup.procs: no file of a controller that we know"},
		{"a file elsewhere", {.unified = {up, 1}},
			"invalid: unified.memory.max/../x: this machine has no cgroup version 2",
			"invalid: unified.memory.max/../x: no file of a controller that we know"},
		{"a controller that we do not know", {.unified = {strange, 1}},
			"invalid: unified.misc.max: this machine has no cgroup version 2",
			"invalid: unified.misc.max: no file of a controller that we know"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		print_message("%s\n", cases[i].why);
		compare(&cases[i].r, false, cases[i].v1);
		compare(&cases[i].r, true, cases[i].v2);
	}
}

static void finds_hierarchies(void **state)
{
#define MOUNT(root, where, type, options) \
	"31 23 0:28 " root " " where " rw,relatime shared:9 - " type " none " options "\n"
	static const char v1[] = MOUNT("/", "/sys/fs/cgroup", "tmpfs", "rw") MOUNT("/",
		"/sys/fs/cgroup/cpu,cpuacct", "cgroup",
		"rw,cpu,cpuacct") MOUNT("/", "/sys/fs/cgroup/memory", "cgroup", "rw,memory")
		MOUNT("/", "/sys/fs/cgroup/net_cls", "cgroup", "rw,net_cls")
			MOUNT("/", "/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,name=systemd");
	struct cgroup_machine m;
	(void)state;

	cgroup_machine_parse(v1, &m);
	assert_int_equal(m.count, 3); // what limits nothing that we ask for is not listed
	assert_string_equal(m.items[0].mount, "/sys/fs/cgroup/cpu,cpuacct");
	assert_int_equal(m.items[0].controllers, CONTROLLER(CPU) | CONTROLLER(CPUACCT));
	assert_int_equal(m.items[1].controllers, CONTROLLER(MEMORY));
	assert_int_equal(m.items[2].controllers, CONTROLLER(SYSTEMD));
	assert_int_equal(cgroup_machine_mode(&m), CGROUP_V1);

	// In a container: a part of the hierarchy, and the whole one elsewhere, with a blank.
	cgroup_machine_parse(MOUNT("/docker/1", "/sys/fs/cgroup/pids", "cgroup", "rw,pids")
				     MOUNT("/", "/all\\040of\\134it", "cgroup", "rw,pids")
					     MOUNT("/x", "/later", "cgroup", "rw,pids"),
		&m);
	assert_int_equal(m.count, 1);
	assert_string_equal(m.items[0].mount, "/all of\\it");

	cgroup_machine_parse("", &m);
	assert_int_equal(cgroup_machine_mode(&m), CGROUP_NONE);
	cgroup_machine_parse("31 23 0:28 / /x rw - cgroup2\n1 2\n\n- - - - - - - -\n", &m);
	assert_int_equal(m.count, 0);
}

static void tells_the_mode(void **state)
{
	const unsigned some = CONTROLLER(MEMORY) | CONTROLLER(PIDS);
	const struct {
		const char *why;
		struct cgroup_machine m;
		enum cgroup_mode expected;
	} cases[] = {
		{"systemd today", {.count = 1, .items = {{.v2 = true, .controllers = some}}},
			CGROUP_V2},
		{"nothing to limit with", {.count = 1, .items = {{.v2 = true}}}, CGROUP_V2},
		{"systemd's own hierarchy is there for old programs",
			{.count = 2, .items = {{.controllers = CONTROLLER(SYSTEMD)}, {.v2 = true}}},
			CGROUP_V2},
		{"hybrid",
			{.count = 2,
				.items = {{.controllers = some},
					{.v2 = true, .controllers = CONTROLLER(HUGETLB)}}},
			CGROUP_HYBRID},
		{"one hierarchy of version 1 beside a full version 2",
			{.count = 2,
				.items = {{.controllers = CONTROLLER(FREEZER)},
					{.v2 = true, .controllers = some}}},
			CGROUP_V2},
		{"version 1", {.count = 1, .items = {{.controllers = some}}}, CGROUP_V1},
		{"systemd's own alone",
			{.count = 1, .items = {{.controllers = CONTROLLER(SYSTEMD)}}}, CGROUP_NONE},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		print_message("%s\n", cases[i].why);
		assert_int_equal(cgroup_machine_mode(&cases[i].m), cases[i].expected);
	}
}

static void refuses_paths(void **state)
{
	static const char *const good[] = {"/a", "/stoker/jobs/a.b", "/..a/b..", "/a/..."};
	static const char *const bad[] = {"", "/", "a", "a/b", "/a/", "//a", "/a//b", "/..",
		"/a/..", "/a/../b", "/.", "/a/./b"};
	struct error err = {0};
	(void)state;
	for (size_t i = 0; i < array_size(good); i++)
		assert_int_equal(cgroup_check_path(good[i], &err), 0);
	for (size_t i = 0; i < array_size(bad); i++) {
		assert_int_equal(cgroup_check_path(bad[i], &err), -1);
		assert_int_equal(err.kind, ERROR_INVALID);
	}
}

static void reads_statistics(void **state)
{
	struct cgroup_stats s = {0};
	uint64_t reads = 0, writes = 0, value = 7;
	(void)state;
	assert_int_equal(cgroup_controllers_parse("cpuset cpu io memory misc\n"),
		CONTROLLER(CPUSET) | CONTROLLER(CPU) | CONTROLLER(IO) | CONTROLLER(MEMORY));
	assert_true(cgroup_field("oom 1\noom_kill 23\n", "oom_kill", &value));
	assert_int_equal(value, 23);
	assert_false(cgroup_field("some_oom_kill 1\noom_kill x\n", "oom_kill", &value));
	assert_int_equal(value, 23);

	cgroup_sum_io_v2("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=9 dios=9\n"
			 "8:16 rbytes=5 wbytes=5 rios=5 wios=5 dbytes=0 dios=0\n7:0 \n",
		&s);
	assert_int_equal(s.read_bytes, 15);
	assert_int_equal(s.write_bytes, 25);
	assert_int_equal(s.read_operations, 6);
	assert_int_equal(s.write_operations, 7);
	cgroup_sum_io_v1("8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n8:0 Total 30\n8:16 Read 1\n"
			 "Total 31\n",
		&reads, &writes);
	assert_int_equal(reads, 11);
	assert_int_equal(writes, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(computes),
		cmocka_unit_test(finds_hierarchies),
		cmocka_unit_test(tells_the_mode),
		cmocka_unit_test(refuses_paths),
		cmocka_unit_test(reads_statistics),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
