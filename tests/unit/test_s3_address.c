// SPDX-License-Identifier: Apache-2.0
#include "controller/files/s3_address.h"

#include "base/memory.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_good(void **state)
{
	static const struct {
		const char *text, *url, *region;
	} cases[] = {
		{"s3://b", "https://b.s3.us-east-1.amazonaws.com/", "us-east-1"},
		{"s3://b/", "https://b.s3.us-east-1.amazonaws.com/", "us-east-1"},
		{"s3://b/a/c/?region=eu-central-1", "https://b.s3.eu-central-1.amazonaws.com/a/c/",
			"eu-central-1"},
		{"s3://b/a?path_style=1", "https://s3.us-east-1.amazonaws.com/b/a/", "us-east-1"},
		{"s3://b?endpoint=http://127.0.0.1:9000", "http://127.0.0.1:9000/b/", "us-east-1"},
		{"s3://b/x.y_z-1?endpoint=https://[::1]:9&path_style=0&region=r",
			"https://b.[::1]:9/x.y_z-1/", "r"},
		{"s3://B_1?path_style=1&", "https://s3.us-east-1.amazonaws.com/B_1/", "us-east-1"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct s3_address a;
		struct error err;
		assert_true(s3_address_is(cases[i].text));
		assert_int_equal(s3_address_parse(&a, cases[i].text, &err), 0);
		assert_string_equal(a.url, cases[i].url);
		assert_string_equal(a.region, cases[i].region);
		assert_null(a.ca);
		s3_address_release(&a);
	}
}

static void test_files(void **state)
{
	struct s3_address a;
	struct error err;
	(void)state;
	assert_int_equal(s3_address_parse(&a, "s3://b/p?credentials=/etc/a=b&ca=/c.pem", &err), 0);
	assert_string_equal(a.bucket, "b");
	assert_string_equal(a.credentials, "/etc/a=b");
	assert_string_equal(a.ca, "/c.pem");
	s3_address_release(&a);
}

static void test_bad(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"s3://", "s3://BUCKET"},
		{"s3:///x", "s3://BUCKET"},
		{"s3://..", "s3://BUCKET"},
		{"s3://b%20c", "s3://BUCKET"},
		{"s3://b/a//c", "prefix"},
		{"s3://b/./c", "prefix"},
		{"s3://b/a/..", "prefix"},
		{"s3://b/a b", "prefix"},
		{"s3://b/\xc3\xa9", "prefix"},
		{"s3://b?region=", "nothing else"},
		{"s3://b?secret=hunter2", "nothing else"},
		{"s3://b?region=a&region=b", "region is there twice"},
		{"s3://b?region=a/b", "region"},
		{"s3://b?path_style=yes", "path_style"},
		{"s3://b?endpoint=ftp://x", "endpoint"},
		{"s3://b?endpoint=http://", "endpoint"},
		{"s3://b?endpoint=http://u:hunter2@h", "endpoint"},
		{"s3://b?endpoint=http://h/path", "endpoint"},
	};
	(void)state;
	assert_false(s3_address_is("/srv/s3://"));
	assert_false(s3_address_is("gs://b"));
	for (size_t i = 0; i < array_size(cases); i++) {
		struct s3_address a;
		struct error err;
		assert_int_equal(s3_address_parse(&a, cases[i].text, &err), -1);
		assert_int_equal(err.kind, ERROR_INVALID);
		assert_non_null(strstr(err.text, cases[i].why));
		assert_null(strstr(err.text, "hunter2"));
		s3_address_release(&a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_bad),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
