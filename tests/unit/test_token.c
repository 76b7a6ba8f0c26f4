// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"
#include "controller/state/token.h"
#include "controller/state/tokens.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define ID     "AbCdEfGhI0"
#define SECRET "0123456789012345678901234567890123456789abZ"

static void test_parse(void **state)
{
	static const char *const bad[] = {
		"",
		"stk_",
		"stk_u_" ID,
		"stk_u_" ID "_",
		"stk_u_" ID "_" SECRET "x",
		"stk_u_" ID "-" SECRET,
		"stk-u_" ID "_" SECRET,
		"stk_u-" ID "_" SECRET,
		"xtk_u_" ID "_" SECRET,
		"stk_u_AbCdEfGh'0_" SECRET,
		"stk_u_" ID "_0123456789012345678901234567890123456789ab ",
		"stk_u_" ID "_0123456789012345678901234567890123456789ab\xc3",
	};
	char id[TOKEN_ID_SIZE];
	(void)state;
	assert_true(token_text_parse("stk_u_" ID "_" SECRET, id));
	assert_string_equal(id, ID);
	for (size_t i = 0; i < array_size(bad); i++)
		if (token_text_parse(bad[i], id))
			fail_msg("%s", bad[i]);
}

static void test_make(void **state)
{
	unsigned seen[256] = {0};
	char first[TOKEN_TEXT_SIZE] = "", text[TOKEN_TEXT_SIZE], id[TOKEN_ID_SIZE];
	enum { TIMES = 4000 };
	(void)state;
	for (int i = 0; i < TIMES; i++) {
		token_text_make(ROLE_NODE, text);
		assert_true(starts_with(text, "stk_n_"));
		assert_true(token_text_parse(text, id));
		assert_string_not_equal(text, first);
		memcpy(first, text, sizeof(first));
		for (const char *c = text + 17; *c; c++)
			seen[(unsigned char)*c]++;
	}
	// Each of 62 characters comes 2,774 times, give or take 52: eight of those.
	for (int c = 0; c < 256; c++)
		if (seen[c] && (seen[c] < 2774 - 416 || seen[c] > 2774 + 416))
			fail_msg("%c: %u", c, seen[c]);
}

static void test_roles(void **state)
{
	enum role role;
	(void)state;
	for (enum role r = ROLE_ADMIN; r < ROLE_NONE; r = (enum role)(r << 1)) {
		assert_int_equal(role_find(role_name(r), &role), 0);
		assert_int_equal(role, r);
	}
	assert_int_equal(role_find("none", &role), -1);
	assert_int_equal(role_find("", &role), -1);
}

static void test_options(void **state)
{
	static const struct {
		const char *role, *user, *why; // NULL: it is good
	} cases[] = {
		{"user", "ada", NULL},
		{"admin", NULL, NULL},
		{"join", NULL, NULL},
		{"user", "ada.l@x-y_z", NULL},
		{"user", NULL, "user: is needed"},
		{"user", "", "user: is needed"},
		{"user", "a b", "user: must have"},
		{"user", "a/b", "user: must have"},
		{"user", "\xc3\xa9", "user: must have"},
		{"node", NULL, "role: must be"},
		{"run", NULL, "role: must be"},
		{"", NULL, "role: must be"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct token_options o = {.owner = cases[i].user};
		struct error err = {0};
		int rc = token_options_check(&o, cases[i].role, &err);
		assert_int_equal(rc, cases[i].why ? -1 : 0);
		if (cases[i].why && !strstr(err.text, cases[i].why))
			fail_msg("%s", err.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_make),
		cmocka_unit_test(test_roles),
		cmocka_unit_test(test_options),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
