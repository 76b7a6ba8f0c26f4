// SPDX-License-Identifier: Apache-2.0
// What git itself says of thousands of rules is asked by tests/integration/test_snapshot.py.
#include "agent/job/ignore.h"

#include "agent/job/git.h"
#include "base/buffer.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void matches(void **state)
{
	static const struct {
		const char *rules, *path;
		bool is_folder, ignored;
		const char *why;
	} cases[] = {
		{"a", "a", false, true, "a name"},
		{"a", "b/a", false, true, "at any depth"},
		{"/a", "b/a", false, false, "anchored"},
		{"b/a", "c/b/a", false, false, "a '/' inside anchors"},
		{"a/", "a", false, false, "folders only"},
		{"a/", "a", true, true, "a folder"},
		{"*.o", "x/y.o", false, true, "a suffix"},
		{"a/*", "a/b", false, true, "one level"},
		{"a/*", "a/b/c", false, false, "not two"},
		{"a/**", "a/b/c", false, true, "all below"},
		{"**/a", "a", false, true, "no folder is one of any number"},
		{"**/a/b", "x/y/a/b", false, true, "any number of folders"},
		{"a/**/b", "a/b", false, true, "none between"},
		{"a/**/b", "a/x/y/b", false, true, "two between"},
		{"a/**b", "a/x/b", false, false, "not a folder of its own: one star"},
		{"foo**/bar", "fooX/Y/bar", false, true, "behind the fixed part, as git has it"},
		{"*\n!a", "a", false, false, "the last one decides"},
		{"!a\n*", "a", false, true, "the other way"},
		{"#a", "#a", false, false, "a comment"},
		{"\\#a", "#a", false, true, "quoted"},
		{"\\!a", "!a", false, true, "quoted"},
		{"a  ", "a", false, true, "spaces behind go"},
		{"a\\ ", "a ", false, true, "unless quoted"},
		{"a\r\n", "a", false, true, "line breaks of Windows"},
		{"[a-c]x", "bx", false, true, "a range"},
		{"[!a-c]x", "bx", false, false, "negated"},
		{"[]-]", "]", false, true, "']' in the first place"},
		{"[[:digit:]]", "7", false, true, "a class"},
		{"[[:nope:]]", "n", false, false, "no class of that name"},
		{"a[", "a[", false, false, "no end"},
		{"a?b", "a/b", false, false, "'?' is no '/'"},
		{"x/a?b", "x/a/b", false, false, "nor here"},
		{"a\\", "a", false, false, "a backslash at the end"},
		{"/", "a", true, false, "nothing"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_ignore struct ignore *ig = ignore_new();
		struct error err = {0};
		assert_int_equal(
			ignore_add(ig, "", cases[i].rules, strlen(cases[i].rules), &err), 0);
		if (ignore_match(ig, cases[i].path, cases[i].is_folder) != cases[i].ignored)
			fail_msg("%s: %s: %s", cases[i].rules, cases[i].path, cases[i].why);
	}
}

static void goes_by_folder(void **state)
{
	cleanup_ignore struct ignore *ig = ignore_new();
	struct error err = {0};

	(void)state;
	ignore_add(ig, "", "*.o\n", 4, &err);
	ignore_add(ig, "a/b", "!x.o\n/y\n", 8, &err);
	assert_false(ignore_match(ig, "a/b/x.o", false));
	assert_true(ignore_match(ig, "a/b/z.o", false));
	assert_true(ignore_match(ig, "a/b/y", false));
	assert_false(ignore_match(ig, "a/b/c/y", false));
	ignore_leave(ig);
	assert_true(ignore_match(ig, "a/c/x.o", false));
}

// git's own matcher would not come to an end here.
static void takes_bounded_time(void **state)
{
	cleanup_ignore struct ignore *ig = ignore_new();
	cleanup_buffer struct buffer rule = {0}, path = {0};
	struct error err = {0};

	(void)state;
	for (int i = 0; i < 1000; i++)
		buffer_puts(&rule, "a*");
	buffer_puts(&rule, "b");
	for (int i = 0; i < 4000; i++)
		buffer_putc(&path, 'a');
	assert_int_equal(ignore_add(ig, "", rule.data, rule.size, &err), 0);
	assert_false(ignore_match(ig, path.data, false));
	assert_true(ignore_steps(ig) < 10 * 1000 * 1000);
}

static void has_limits(void **state)
{
	cleanup_ignore struct ignore *ig = ignore_new();
	cleanup_free char *text = xmalloc(IGNORE_BYTES_MAX + 1);
	struct error err = {0};

	(void)state;
	memset(text, 'a', IGNORE_BYTES_MAX + 1);
	assert_int_equal(ignore_add(ig, "", text, IGNORE_BYTES_MAX + 1, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	ignore_leave(ig);
	assert_int_equal(ignore_add(ig, "", text, IGNORE_PATTERN_MAX + 1, &err), -1);
	assert_string_equal(err.text, "line 1 is longer than 4096 bytes");
}

static void strips_credentials(void **state)
{
	static const struct {
		const char *url, *expected;
	} cases[] = {
		{"https://h/x.git", "https://h/x.git"},
		{"https://user:pw@h/x.git", "https://h/x.git"},
		{"https://token@h:8443/x.git", "https://h:8443/x.git"},
		{"https://a@b:c@h/x@y", "https://h/x@y"},
		{"https://h/x.git?private_token=1#a", "https://h/x.git"},
		{"ssh://git@h/x.git", "ssh://git@h/x.git"},
		{"ssh://git:pw@h:22/x.git", "ssh://git@h:22/x.git"},
		{"git@h:x/y.git", "git@h:x/y.git"},
		{"a:b@h:x/y.git", "h:x/y.git"},
		{"/srv/x.git", "/srv/x.git"},
		{"file:///srv/x.git", "file:///srv/x.git"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		assert_string_equal(git_strip_credentials(&a, cases[i].url), cases[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matches),
		cmocka_unit_test(goes_by_folder),
		cmocka_unit_test(takes_bounded_time),
		cmocka_unit_test(has_limits),
		cmocka_unit_test(strips_credentials),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
