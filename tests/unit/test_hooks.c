// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/hooks.h"

#include "base/file.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static char folder[64];

static int setup(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/test_hooks.XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	struct error err = {0};
	(void)state;
	return directory_remove(AT_FDCWD, folder, &err);
}

static struct runtime_hook shell(struct arena *a, const char *script)
{
	const char **args = arena_array(a, const char *, 4);
	args[0] = "named";
	args[1] = "-c";
	args[2] = script;
	const char **env = arena_array(a, const char *, 2);
	env[0] = arena_printf(a, "OUT=%s/out", folder);
	return (struct runtime_hook){
		.path = "/bin/sh", .args = {.items = args, .count = 3}, .env = {env, 1}};
}

static void set(struct runtime_spec *spec, enum runtime_hook_point point,
	struct runtime_hook *hooks, size_t count)
{
	*spec = (struct runtime_spec){0};
	spec->hooks[point].items = hooks;
	spec->hooks[point].count = count;
}

static void read_out(struct buffer *text)
{
	struct error err = {0};
	cleanup_free char *path = path_join(folder, "out");
	buffer_puts(text, "");
	if (file_read(AT_FDCWD, path, 4096, text, &err) < 0)
		fail_msg("%s", err.text);
	remove(path);
}

// In order, with the state on stdin, its own environment only and argv[0] as it is given.
static void runs_in_order(void **state)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer text = {0};
	struct error err = {0};
	struct runtime_spec spec;
	struct runtime_hook hooks[] = {
		shell(&a, "read -r x; echo 1 $0 \"$x\" ${HOME-none} >> $OUT"),
		shell(&a, "echo 2 >> $OUT"),
	};

	(void)state;
	set(&spec, RUNTIME_HOOK_POSTSTART, hooks, 2);
	if (runtime_hooks_run(&spec, RUNTIME_HOOK_POSTSTART, "{\"id\":\"x\"}\n", &err) < 0)
		fail_msg("%s", err.text);
	read_out(&text);
	assert_string_equal(text.data, "1 named {\"id\":\"x\"} none\n2\n");
	// Those of another point are not meant.
	assert_int_equal(runtime_hooks_run(&spec, RUNTIME_HOOK_PRESTART, "", &err), 0);
}

static void stops_at_a_failure(void **state)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer text = {0};
	struct error err = {0};
	struct runtime_spec spec;
	struct runtime_hook hooks[] = {
		shell(&a, "echo 1 >> $OUT"),
		shell(&a, "echo sorry >&2; exit 3"),
		shell(&a, "echo 3 >> $OUT"),
	};

	(void)state;
	set(&spec, RUNTIME_HOOK_PRESTART, hooks, 3);
	assert_int_equal(runtime_hooks_run(&spec, RUNTIME_HOOK_PRESTART, "{}", &err), -1);
	assert_string_equal(err.text, "prestart hook 2: sh exited with status 3: sorry");
	read_out(&text);
	assert_string_equal(text.data, "1\n");
}

static void failures_can_be_warnings(void **state)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer text = {0}, warnings = {0};
	struct runtime_spec spec;
	struct runtime_hook hooks[] = {
		shell(&a, "exit 1"),
		{.path = "/nonexistent/hook"},
		shell(&a, "echo 3 >> $OUT"),
	};

	(void)state;
	set(&spec, RUNTIME_HOOK_POSTSTOP, hooks, 3);
	runtime_hooks_run_all(&spec, RUNTIME_HOOK_POSTSTOP, "{}", &warnings);
	read_out(&text);
	assert_string_equal(text.data, "3\n");
	assert_string_equal(warnings.data,
		"poststop hook 1: sh exited with status 1\n"
		"poststop hook 2: start /nonexistent/hook: No such file or directory\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_in_order),
		cmocka_unit_test(stops_at_a_failure),
		cmocka_unit_test(failures_can_be_warnings),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
