// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_set(void **state)
{
	(void)state;
	struct error err = {.sys = 5};
	assert_int_equal(error_set(&err, ERROR_LIMIT, "%s: over %d", "a", 3), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_int_equal(err.sys, 0);
	assert_string_equal(err.text, "a: over 3");
	error_clear(&err);
	assert_int_equal(err.kind, ERROR_NONE);
	assert_string_equal(err.text, "");
}

static void test_one_line(void **state)
{
	(void)state;
	struct error err;
	error_set(&err, ERROR_INVALID, "%s", "a\nb\x1b[31mc\x7f\td \xc3\xa9");
	assert_string_equal(err.text, "a?b?[31mc??d \xc3\xa9");
}

static void test_context(void **state)
{
	(void)state;
	struct error err;
	assert_int_equal(error_set_errno(&err, ENOENT, "open %s", "x"), -1);
	assert_int_equal(error_context(&err, "layer %d", 2), -1);
	assert_string_equal(err.text, "layer 2: open x: No such file or directory");
	assert_int_equal(err.kind, ERROR_NOT_FOUND);
	assert_int_equal(err.sys, ENOENT);
	// The old text as an argument of the new one.
	error_set(&err, ERROR_DENIED, "again: %s", err.text);
	assert_string_equal(err.text, "again: layer 2: open x: No such file or directory");
}

static void test_errno_kinds(void **state)
{
	(void)state;
	static const struct {
		int sys;
		enum error_kind kind;
	} cases[] = {
		{ENOENT, ERROR_NOT_FOUND},
		{EACCES, ERROR_DENIED},
		{EPERM, ERROR_DENIED},
		{ENOSPC, ERROR_LIMIT},
		{EDQUOT, ERROR_LIMIT},
		{EMFILE, ERROR_LIMIT},
		{ENFILE, ERROR_LIMIT},
		{EIO, ERROR_SYSTEM},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error err;
		error_set_errno(&err, cases[i].sys, "x");
		assert_int_equal(err.kind, cases[i].kind);
		assert_int_equal(err.sys, cases[i].sys);
	}
}

static void test_cut(void **state)
{
	(void)state;
	struct error err;
	char text[2000];
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	error_set(&err, ERROR_INVALID, "%s", text);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
	error_context(&err, "before");
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
	assert_memory_equal(err.text, "before: xxx", 11);
}

// The structure goes down a pipe: no byte behind the text may come from the stack.
static void test_no_leak(void **state)
{
	(void)state;
	struct error err;
	memset(&err, 0xaa, sizeof(err));
	error_set(&err, ERROR_INVALID, "short");
	for (size_t i = strlen("short"); i < sizeof(err.text); i++)
		assert_int_equal(err.text[i], 0);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(error_kind_name(ERROR_NOT_FOUND), "not_found");
	assert_string_equal(error_kind_name(ERROR_SYSTEM), "system");
	assert_string_equal(error_kind_name((enum error_kind)99), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_one_line),
		cmocka_unit_test(test_context),
		cmocka_unit_test(test_errno_kinds),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_no_leak),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
