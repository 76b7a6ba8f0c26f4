// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

// RFC 4648, section 10, and bytes that need every digit.
static const struct {
	const char *plain, *encoded;
	size_t size;
} pairs[] = {
	{"", "", 0},
	{"f", "Zg==", 1},
	{"fo", "Zm8=", 2},
	{"foo", "Zm9v", 3},
	{"foob", "Zm9vYg==", 4},
	{"fooba", "Zm9vYmE=", 5},
	{"foobar", "Zm9vYmFy", 6},
	{"\xfb\xef\xff\0\1", "++//AAE=", 5},
	{"alice:s3cret-p:ssw0rd", "YWxpY2U6czNjcmV0LXA6c3N3MHJk", 21},
};

static void goes_there_and_back(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(pairs); i++) {
		cleanup_buffer struct buffer encoded = {0}, plain = {0};
		base64_encode(pairs[i].plain, pairs[i].size, &encoded);
		assert_string_equal(encoded.size ? encoded.data : "", pairs[i].encoded);
		assert_true(base64_decode(pairs[i].encoded, &plain));
		assert_int_equal(plain.size, pairs[i].size);
		assert_memory_equal(plain.size ? plain.data : "", pairs[i].plain, pairs[i].size);
	}
}

static void takes_and_refuses(void **state)
{
	static const struct {
		const char *input;
		bool valid;
	} cases[] = {
		{"Zg", true},		   // without padding
		{"Zm9v\n Yg==\r\n", true}, // folded
		{"Z", false},
		{"Zg===", false},
		{"Zg=a", false},
		{"Zh==", false}, // bits that mean nothing
		{"Z-_v", false}, // the alphabet of URLs
		{"Zm9v*", false},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_buffer struct buffer plain = {0};
		if (base64_decode(cases[i].input, &plain) != cases[i].valid)
			fail_msg("%s", cases[i].input);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_there_and_back),
		cmocka_unit_test(takes_and_refuses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
