// SPDX-License-Identifier: Apache-2.0
#include "base/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

// The examples that NIST publishes for FIPS 180-4, and the empty message.
static void test_known(void **state)
{
	(void)state;
	static const struct {
		const char *text, *hex;
	} cases[] = {
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
			"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t digest[SHA256_SIZE];
		char hex[SHA256_HEX_SIZE];
		size_t size = strlen(cases[i].text);
		sha256_of(cases[i].text, size, digest);
		sha256_hex(digest, hex);
		assert_string_equal(hex, cases[i].hex);
		// Byte by byte gives the same.
		cleanup_sha256 struct sha256 *h = sha256_new();
		for (size_t k = 0; k < size; k++)
			sha256_update(h, cases[i].text + k, 1);
		uint8_t again[SHA256_SIZE];
		sha256_final(h, again);
		assert_memory_equal(again, digest, sizeof(digest));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_known)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
