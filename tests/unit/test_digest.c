// SPDX-License-Identifier: Apache-2.0
#include "oci/image/digest.h"

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define HEX   "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define EMPTY "sha256:" HEX // of no bytes at all

static void accepts_sha256(void **state)
{
	struct oci_digest d;
	struct error err;

	(void)state;
	assert_int_equal(oci_digest_parse(EMPTY, &d, &err), 0);
	assert_string_equal(d.text, EMPTY);
	assert_string_equal(oci_digest_hex(&d), HEX);
}

static void refuses_others(void **state)
{
	static const struct {
		const char *input, *expected, *why;
	} cases[] = {
		{"", "is not a digest: expected sha256: and 64 hexadecimal digits", "empty"},
		{HEX, "is not a digest", "no algorithm"},
		{"sha256:", "is not a digest", "no digits"},
		{EMPTY "0", "is not a digest", "65 digits"},
		{"sha256:3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
			"is not a digest", "63 digits"},
		{"sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
			"(lower case)", "upper case"},
		{"sha256:g3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
			"is not a digest", "not hexadecimal"},
		{"SHA256:" HEX, "is not a digest", "upper case algorithm"},
		{"md5:d41d8cd98f00b204e9800998ecf8427e", "is not a digest", "another algorithm"},
		{"sha512:cf83", "is a sha512 digest: only sha256 is supported", "a good one"},
		{"sha256:../../../../../../../../../../../../../etc/passwd/../../../aaaaa",
			"is not a digest", "never a path"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct oci_digest d = {"untouched"};
		struct error err;
		if (oci_digest_parse(cases[i].input, &d, &err) == 0)
			fail_msg("accepted %s (%s)", cases[i].input, cases[i].why);
		assert_int_equal(err.kind, ERROR_INVALID);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s: %s", cases[i].why, err.text);
		assert_string_equal(d.text, "untouched");
	}
}

static void hashes(void **state)
{
	struct oci_digest empty = oci_digest_of("", 0), abc = oci_digest_of("abc", 3);
	struct oci_digest none = {""}, again;
	uint8_t sha256[SHA256_SIZE];

	(void)state;
	assert_string_equal(empty.text, EMPTY);
	assert_string_equal(abc.text, // FIPS 180-2, appendix B.1
		"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_of("abc", 3, sha256);
	again = oci_digest_from_sha256(sha256);
	assert_true(oci_digest_equal(&abc, &again));
	assert_false(oci_digest_equal(&abc, &empty));
	assert_false(oci_digest_equal(&abc, &none));
	assert_string_equal(oci_digest_hex(&none), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_sha256),
		cmocka_unit_test(refuses_others),
		cmocka_unit_test(hashes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
