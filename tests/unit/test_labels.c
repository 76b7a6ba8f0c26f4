// SPDX-License-Identifier: Apache-2.0
#include "agent/config/labels.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct {
	const char *text, *error; // error NULL: it is good
} cases[] = {
	{"zone=north", NULL},
	{"example.com/gpu-type=A100 80 GB", NULL},
	{"empty=", NULL},
	{"a=b=c", NULL},
	{"zone", "must be NAME=VALUE"},
	{"=north", "a letter or digit first"},
	{"-zone=north", "a letter or digit first"},
	{"zo ne=north", "a letter or digit first"},
	{"zone=north\nsouth", "in one line"},
	{"zone=\xff", "in one line"},
	{"a123456789012345678901234567890123456789012345678901234567890123=x", "1 to 63"},
};

static void test_parse(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct json_pairs labels;
		struct error err = {0};
		int rc = labels_parse(&cases[i].text, 1, &a, &labels, &err);
		assert_int_equal(rc, cases[i].error ? -1 : 0);
		if (cases[i].error)
			assert_non_null(strstr(err.text, cases[i].error));
		else
			assert_int_equal(strcspn(cases[i].text, "="), strlen(labels.items[0].key));
	}
}

static void test_merge(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	const char *one[] = {"a=1", "b=2", "a=3"}, *two[] = {"b=4", "c=5"};
	struct json_pairs first, second;
	struct error err;
	assert_int_equal(labels_parse(one, 3, &a, &first, &err), 0);
	assert_int_equal(labels_parse(two, 2, &a, &second, &err), 0);
	const struct json_pairs all = labels_merge(&a, &first, &second);
	assert_int_equal(all.count, 3);
	assert_string_equal(all.items[0].value, "3");
	assert_string_equal(all.items[1].value, "4");
	assert_string_equal(all.items[2].value, "5");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse), cmocka_unit_test(test_merge)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
