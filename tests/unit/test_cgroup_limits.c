// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/cgroup_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct file {
	const char *path, *text;
};

static const struct {
	const char *why, *self;
	bool v1;
	struct file files[4];
	double cpus;
	uint64_t memory;
} cases[] = {
	{"no file, no limit", "0::/\n", false, {{NULL}}, 0, 0},
	{"\"max\" is none", "0::/a\n", false,
		{{"a/cpu.max", "max 100000\n"}, {"a/memory.max", "max\n"}}, 0, 0},
	{"its own", "0::/a\n", false,
		{{"a/cpu.max", "250000 100000\n"}, {"a/memory.max", "1073741824\n"}}, 2.5,
		1ULL << 30},
	{"the lowest on the way up", "0::/a/b\n", false,
		{{"a/cpu.max", "50000 100000\n"}, {"a/b/cpu.max", "300000 100000\n"},
			{"a/b/memory.max", "4096000\n"}, {"a/memory.max", "8192000\n"}},
		0.5, 4096000},
	{"a container sees its group as the root", "0::/elsewhere/x\n", false,
		{{"cpu.max", "100000 100000\n"}}, 1, 0},
	{"version 1", "5:memory:/m\n4:cpu,cpuacct:/c\n", true,
		{{"c/cpu.cfs_quota_us", "150000\n"}, {"c/cpu.cfs_period_us", "100000\n"},
			{"m/memory.limit_in_bytes", "2147483648\n"}},
		1.5, 2ULL << 30},
	{"version 1 without limits", "5:memory:/\n4:cpu:/\n", true,
		{{"cpu.cfs_quota_us", "-1\n"}, {"cpu.cfs_period_us", "100000\n"},
			{"memory.limit_in_bytes", "9223372036854771712\n"}},
		0, 0},
	{"another's hierarchy says nothing of us", "7:pids:/p\n", true,
		{{"cpu.cfs_quota_us", "100000\n"}, {"cpu.cfs_period_us", "100000\n"}}, 0, 0},
	{"what is no number says nothing", "0::/\n", false,
		{{"cpu.max", "1x 100000\n"}, {"memory.max", "lots\n"}}, 0, 0},
};

static void put(const char *folder, const struct file *f)
{
	struct error err;
	cleanup_free char *path = path_join(folder, f->path);
	cleanup_free char *parent = xstrdup(path);
	*strrchr(parent, '/') = '\0';
	assert_int_equal(directory_make(AT_FDCWD, parent, 0755, &err), 0);
	assert_int_equal(
		file_write_atomic(AT_FDCWD, path, f->text, strlen(f->text), 0644, &err), 0);
}

static void test_limits(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		char folder[] = "/tmp/test_cgroup_limits.XXXXXX";
		struct error err;
		struct cgroup_limits limits;
		assert_non_null(mkdtemp(folder));
		for (const struct file *f = cases[i].files;
			f < cases[i].files + array_size(cases[i].files) && f->path; f++)
			put(folder, f);

		struct cgroup_machine m = {.count = 1};
		m.items[0].v2 = !cases[i].v1;
		m.items[0].controllers = CONTROLLER(CPU) | CONTROLLER(MEMORY);
		snprintf(m.items[0].mount, sizeof(m.items[0].mount), "%s", folder);
		cgroup_limits_read(&m, cases[i].self, &limits);
		assert_int_equal(directory_remove(AT_FDCWD, folder, &err), 0);
		if (limits.cpus != cases[i].cpus || limits.memory != cases[i].memory)
			fail_msg("%s: %g CPUs, %llu bytes", cases[i].why, limits.cpus,
				(unsigned long long)limits.memory);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_limits)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
