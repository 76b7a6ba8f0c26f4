// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/container_plan.h"

#include "base/text.h"
#include "oci/runtime/container_internal.h"

#include <linux/mount.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct container_step *find(const struct container_plan *p, const char *target)
{
	for (size_t i = 0; i < p->count; i++)
		if (streq(p->steps[i].target, target))
			return &p->steps[i];
	fail_msg("nothing at %s", target);
	return NULL;
}

static const struct json_strings no_words = {(const char *[]){NULL}, 0};

static void plans_what_every_job_has(void **state)
{
	cleanup_arena struct arena a = {0};
	struct runtime_spec spec;
	struct container_plan p;
	struct error err = {0};

	(void)state;
	container_default_spec(&a, &spec, 1000000);
	if (container_plan(&a, &spec, NULL, &p, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(p.steps[0].target, "/proc");
	assert_true(find(&p, "/sys")->words.set & MOUNT_ATTR_RDONLY);
	assert_int_equal(find(&p, "/dev")->kind, STEP_DEVICES);
	assert_string_equal(find(&p, "/dev")->words.data, "mode=755,size=64k");
	assert_int_equal(find(&p, "/sys/fs/cgroup")->kind, STEP_CGROUP);
	assert_int_equal(find(&p, "/proc/kcore")->kind, STEP_MASK);
	assert_int_equal(find(&p, "/proc/sys")->kind, STEP_READ_ONLY);
	for (size_t i = 0; i < p.count; i++) {
		const struct container_step *s = &p.steps[i];
		bool works = streq(s->target, "/dev") || streq(s->target, "/dev/pts");
		// Devices work in these two and nowhere else.
		if (s->kind != STEP_MASK && s->kind != STEP_READ_ONLY && !works &&
			!(s->words.set & MOUNT_ATTR_NODEV))
			fail_msg("%s is not nodev", s->target);
		if (streq(s->target, "/proc") || streq(s->target, "/sys") ||
			streq(s->target, "/dev"))
			assert_true(s->plain);
		assert_true(s->target[0] == '/');
		assert_int_equal(s->tree_fd, -1);
	}
	assert_true(spec.namespaces[RUNTIME_NAMESPACE_USER].wanted);
	assert_int_equal(spec.uid_mappings.items[0].host, 1000000);
	container_default_spec(&a, &spec, 0);
	assert_false(spec.namespaces[RUNTIME_NAMESPACE_USER].wanted);
	assert_int_equal(spec.uid_mappings.count, 0);
}

static void keeps_the_order_of_mounts(void **state)
{
	static const char *first[] = {"rbind", "rro", "rnosuid", NULL};
	static const char *second[] = {"bind", "idmap", "noatime", NULL};
	cleanup_arena struct arena a = {0};
	struct runtime_mount mounts[] = {
		{.destination = "/mnt//a/.", .source = "/data/../data", .options = {first, 3}},
		{.destination = "/mnt/a/b..c", .source = "sub", .options = {second, 3}},
	};
	static const char *read_only[] = {"/proc/sys", NULL};
	const struct runtime_spec spec = {
		.process.cwd = "/w",
		.mounts = mounts,
		.mount_count = 2,
		.readonly_paths = {read_only, 1},
	};
	struct container_plan p;
	struct error err = {0};

	(void)state;
	if (container_plan(&a, &spec, "/bundle", &p, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(p.count, 3);
	assert_string_equal(p.steps[0].target, "/mnt/a");
	assert_string_equal(p.steps[0].source, "/data/../data");
	assert_true(p.steps[0].words.recursive);
	assert_int_equal(p.steps[0].words.recursive_set, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID);
	assert_string_equal(p.steps[1].source, "/bundle/sub");
	assert_true(p.steps[1].words.idmap && !p.steps[1].words.recursive);
	assert_int_equal(p.steps[1].words.set, MOUNT_ATTR_NOATIME);
	assert_int_equal(p.steps[1].words.clear, MOUNT_ATTR__ATIME);
	assert_int_equal(p.steps[2].kind, STEP_READ_ONLY);
}

static void refuses_targets(void **state)
{
	static const char *bind[] = {"rbind", NULL};
	static const struct {
		const char *target, *expected;
	} cases[] = {
		{"relative", "must be an absolute path"},
		{"", "must be an absolute path"},
		{"/", "the whole root cannot be replaced"},
		{"//", "the whole root cannot be replaced"},
		{"/.", "the whole root cannot be replaced"},
		{"/./", "the whole root cannot be replaced"},
		{"/a/..", "must not contain \"..\""},
		{"/../a", "must not contain \"..\""},
		{"/a/../b", "must not contain \"..\""},
		{"/proc", "nothing of this kind can be mounted in /proc or /sys"},
		{"/proc/self", "nothing of this kind can be mounted in /proc or /sys"},
		{"/proc/self/attr", "nothing of this kind can be mounted in /proc or /sys"},
		{"//sys/fs", "nothing of this kind can be mounted in /proc or /sys"},
		{"/./proc/x", "nothing of this kind can be mounted in /proc or /sys"},
	};
	static const char *const fine[] = {
		"/process", "/system/x", "/a..b", "/...", "/dev/x", "/proc/uptime"};

	(void)state;
	for (size_t i = 0; i < array_size(cases) + array_size(fine); i++) {
		bool bad = i < array_size(cases);
		cleanup_arena struct arena a = {0};
		struct runtime_mount m = {
			.destination = bad ? cases[i].target : fine[i - array_size(cases)],
			.source = "/x",
			.options = {bind, 1}};
		const struct runtime_spec spec = {
			.process.cwd = "/", .mounts = &m, .mount_count = 1};
		struct container_plan p;
		struct error err = {0};
		int rc = container_plan(&a, &spec, NULL, &p, &err);
		if (rc != (bad ? -1 : 0))
			fail_msg("%s: %s", m.destination, err.text);
		if (bad && (err.kind != ERROR_INVALID || !strstr(err.text, cases[i].expected)))
			fail_msg("%s: %s", m.destination, err.text);
	}
}

static void refuses_the_rest(void **state)
{
	static struct runtime_mount many[CONTAINER_MOUNTS_MAX + 1];
	static const char *bind[] = {"bind", NULL}, *remount[] = {"remount", NULL};
	static const char *copy_up[] = {"tmpcopyup", NULL};
	struct runtime_mount mounts[] = {
		{.destination = "/x", .source = "x", .options = {bind, 1}},
		{.destination = "/x", .type = "tmpfs", .options = {remount, 1}},
		{.destination = "/x", .options = no_words},
		{.destination = "/x", .options = {bind, 1}},
		{.destination = "/proc/sys", .type = "tmpfs", .options = no_words},
		{.destination = "/x", .type = "mqueue", .options = {copy_up, 1}},
		{.destination = "/dev", .type = "tmpfs", .options = {copy_up, 1}},
	};
	struct runtime_device outside = {.path = "/etc/x", .type = 'c'};
	const struct runtime_spec specs[] = {
		{.process.cwd = "/", .mounts = many, .mount_count = array_size(many)},
		{.process.cwd = "/", .mounts = &mounts[0], .mount_count = 1},
		{.process.cwd = "/", .mounts = &mounts[1], .mount_count = 1},
		{.process.cwd = "/", .mounts = &mounts[2], .mount_count = 1},
		{.process.cwd = "/", .mounts = &mounts[3], .mount_count = 1},
		{.process.cwd = "/", .mounts = &mounts[4], .mount_count = 1},
		{.process.cwd = "/", .mounts = &mounts[5], .mount_count = 1},
		{.process.cwd = "/", .mounts = &mounts[6], .mount_count = 1},
		{.process.cwd = "w"},
		{.process.cwd = "/w/../.."},
		{.process.cwd = "/", .devices = &outside, .device_count = 1},
	};
	static const char *const expected[] = {"1025 mounts, at most 1024",
		"mount of x: must be an absolute path", "mount option \"remount\": not supported",
		"mount at /x: no type", "mount at /x: no source", "nothing of this kind",
		"mount at /x: \"tmpcopyup\" is for a tmpfs", "and not for /dev",
		"working directory w: must be an absolute path", "must not contain \"..\"",
		"device /etc/x: must be below /dev"};

	(void)state;
	for (size_t i = 0; i < array_size(specs); i++) {
		cleanup_arena struct arena a = {0};
		struct container_plan p;
		struct error err = {0};
		assert_int_equal(container_plan(&a, &specs[i], NULL, &p, &err), -1);
		if (!strstr(err.text, expected[i]))
			fail_msg("%s", err.text);
	}
}

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
			     "broken\n"
			     "bad:x:abc:0::/bad:/bin/sh\n"
			     "top:x:4294967295:0::/top:/bin/sh\n"
			     "ada:x:1000:100:Ada,,,:/home/ada:/bin/sh\n"
			     "rel:x:1001:100::home:/bin/sh\n"
			     "last:x:1002:7:::";
static const char group[] = "root:x:0:\nusers:x:100:\nvideo:x:44:ada,bob\n"
			    "audio:x:45:bob,ada\nnearly:x:46:adam,ad\nnumber:x:x:ada\n";

static void finds_users(void **state)
{
	static const struct {
		const char *name;
		unsigned uid, gid;
		size_t groups;
		const char *home, *why;
	} cases[] = {
		{"", 0, 0, 0, "/root", "root is the default"},
		{"0", 0, 0, 0, "/root", "by number"},
		{"root", 0, 0, 0, "/root", "by name"},
		{"ada", 1000, 100, 2, "/home/ada", "with the groups that list her"},
		{"1000", 1000, 100, 2, "/home/ada", "the same by number"},
		{"ada:video", 1000, 44, 0, "/home/ada", "only the group that is named"},
		{"ada:7", 1000, 7, 0, "/home/ada", "a group that is in no file"},
		{"5:6", 5, 6, 0, "/", "nobody the image knows"},
		{"5", 5, 0, 0, "/", "the group of nobody is root's, as in Docker"},
		{"rel", 1001, 100, 0, "/", "a relative home is none"},
		{"last", 1002, 7, 0, "/", "a last line without an end"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct container_user u;
		struct error err = {0};
		if (container_user_parse(passwd, group, cases[i].name, &u, &err) < 0)
			fail_msg("%s: %s", cases[i].why, err.text);
		if (u.uid != cases[i].uid || u.gid != cases[i].gid ||
			u.group_count != cases[i].groups || !streq(u.home, cases[i].home))
			fail_msg("%s: %u:%u, %zu groups, %s", cases[i].why, u.uid, u.gid,
				u.group_count, u.home);
	}
}

static void refuses_users(void **state)
{
	static const struct {
		const char *name;
		enum error_kind kind;
		const char *expected;
	} cases[] = {
		{"bob", ERROR_NOT_FOUND, "user \"bob\" is not in the image's /etc/passwd"},
		{"ad", ERROR_NOT_FOUND, "user \"ad\" is not"},
		{"bad", ERROR_NOT_FOUND, "user \"bad\" is not"},
		{"top", ERROR_NOT_FOUND, "user \"top\" is not"},
		{"broken", ERROR_NOT_FOUND, "user \"broken\" is not"},
		{"4294967295", ERROR_NOT_FOUND, "is not in the image's"},
		{"-1", ERROR_NOT_FOUND, "is not in the image's"},
		{"ada:none", ERROR_NOT_FOUND, "group \"none\" is not in the image's /etc/group"},
		{"ada:4294967295", ERROR_NOT_FOUND, "group \"4294967295\" is not"},
		{"ada:", ERROR_INVALID, "must be USER or USER:GROUP"},
		{":video", ERROR_INVALID, "must be USER or USER:GROUP"},
		{"a:b:c", ERROR_INVALID, "must be USER or USER:GROUP"},
		{"a\nroot:x", ERROR_INVALID, "must be USER or USER:GROUP"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct container_user u;
		struct error err = {0};
		if (container_user_parse(passwd, group, cases[i].name, &u, &err) == 0)
			fail_msg("accepted %s", cases[i].name);
		if (err.kind != cases[i].kind || !strstr(err.text, cases[i].expected))
			fail_msg("%s: %s", cases[i].name, err.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plans_what_every_job_has),
		cmocka_unit_test(keeps_the_order_of_mounts),
		cmocka_unit_test(refuses_targets),
		cmocka_unit_test(refuses_the_rest),
		cmocka_unit_test(finds_users),
		cmocka_unit_test(refuses_users),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
