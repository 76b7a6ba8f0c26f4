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

static void plans_the_fixed_part(void **state)
{
	cleanup_arena struct arena a = {0};
	const struct container_spec spec = {.cwd = "/"};
	struct container_plan p;
	struct error err = {0};

	(void)state;
	assert_int_equal(container_plan(&a, &spec, &p, &err), 0);
	assert_string_equal(p.steps[0].target, "/proc");
	assert_true(find(&p, "/sys")->attributes & MOUNT_ATTR_RDONLY);
	assert_string_equal(find(&p, "/dev/shm")->options, "mode=1777,size=67108864");
	assert_int_equal(find(&p, "/proc/kcore")->kind, STEP_MASK);
	assert_int_equal(find(&p, "/proc/sys")->kind, STEP_READ_ONLY);
	for (size_t i = 0; i < p.count; i++) {
		const struct container_step *s = &p.steps[i];
		bool node_device = s->kind == STEP_BIND && starts_with(s->source, "/dev/");
		bool pts = streq(s->target, "/dev/pts");
		// Devices work at the few that the node itself has made, and nowhere else.
		if ((s->kind == STEP_FILESYSTEM || s->kind == STEP_BIND) && !node_device && !pts &&
			!(s->attributes & MOUNT_ATTR_NODEV))
			fail_msg("%s is not nodev", s->target);
		if (streq(s->target, "/proc") || streq(s->target, "/sys") ||
			streq(s->target, "/dev"))
			assert_true(s->plain);
		assert_true(s->target[0] == '/');
	}
}

static void plans_binds_last(void **state)
{
	cleanup_arena struct arena a = {0};
	const struct container_bind binds[] = {
		{"/data/../data", "/mnt/a", true, false},
		{"/rw", "/mnt/a/b..c", false, true},
	};
	const struct container_spec spec = {
		.cwd = "/w", .binds = binds, .bind_count = 2, .shm_size = 4096};
	struct container_plan p;
	struct error err = {0};

	(void)state;
	if (container_plan(&a, &spec, &p, &err) < 0)
		fail_msg("%s", err.text);
	const struct container_step *last = &p.steps[p.count - 1], *first = last - 1;
	assert_string_equal(first->target, "/mnt/a");
	assert_int_equal(
		first->attributes, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	assert_false(first->owned);
	assert_int_equal(last->attributes, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	assert_true(last->owned);
	assert_string_equal(find(&p, "/dev/shm")->options, "mode=1777,size=4096");
}

static void refuses_targets(void **state)
{
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
		{"/proc", "nothing can be mounted in /proc or /sys"},
		{"/proc/self", "nothing can be mounted in /proc or /sys"},
		{"//sys/fs", "nothing can be mounted in /proc or /sys"},
	};
	static const char *const fine[] = {"/process", "/system/x", "/a..b", "/...", "/dev/x"};

	(void)state;
	for (size_t i = 0; i < array_size(cases) + array_size(fine); i++) {
		bool bad = i < array_size(cases);
		cleanup_arena struct arena a = {0};
		const struct container_bind bind = {
			"/x", bad ? cases[i].target : fine[i - array_size(cases)], false, false};
		const struct container_spec spec = {.cwd = "/", .binds = &bind, .bind_count = 1};
		struct container_plan p;
		struct error err = {0};
		int rc = container_plan(&a, &spec, &p, &err);
		if (rc != (bad ? -1 : 0))
			fail_msg("%s: %s", bind.target, err.text);
		if (bad && (err.kind != ERROR_INVALID || !strstr(err.text, cases[i].expected)))
			fail_msg("%s: %s", bind.target, err.text);
	}
}

static void refuses_the_rest(void **state)
{
	static struct container_bind many[CONTAINER_BINDS_MAX + 1];
	cleanup_arena struct arena a = {0};
	const struct container_bind relative = {"x", "/x", false, false};
	const struct container_spec specs[] = {
		{.cwd = "/", .binds = many, .bind_count = array_size(many)},
		{.cwd = "/", .binds = &relative, .bind_count = 1},
		{.cwd = "w"},
		{.cwd = "/w/../.."},
	};
	static const char *const expected[] = {"257 mounts, at most 256",
		"mount of x: must be an absolute path",
		"working directory w: must be an absolute path", "must not contain \"..\""};
	struct container_plan p;
	struct error err = {0};

	(void)state;
	for (size_t i = 0; i < array_size(specs); i++) {
		assert_int_equal(container_plan(&a, &specs[i], &p, &err), -1);
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
		cmocka_unit_test(plans_the_fixed_part),
		cmocka_unit_test(plans_binds_last),
		cmocka_unit_test(refuses_targets),
		cmocka_unit_test(refuses_the_rest),
		cmocka_unit_test(finds_users),
		cmocka_unit_test(refuses_users),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
