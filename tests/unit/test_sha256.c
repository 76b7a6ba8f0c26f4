// SPDX-License-Identifier: Apache-2.0
#include "base/sha256_plain.h"

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

// Ours and libcrypto's, over every length that meets a border of blocks, cut anywhere.
static void test_plain(void **state)
{
	(void)state;
	uint8_t data[400], ours[SHA256_SIZE], theirs[SHA256_SIZE];
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 11);
	for (size_t size = 0; size <= sizeof(data); size++) {
		struct sha256_plain plain;
		size_t cut = size * 3 / 7;
		sha256_plain_init(&plain);
		sha256_plain_update(&plain, data, cut);
		sha256_plain_update(&plain, data + cut, size - cut);
		sha256_plain_final(&plain, ours);
		cleanup_sha256 struct sha256 *h = sha256_new();
		sha256_update(h, data, size);
		sha256_final(h, theirs);
		assert_memory_equal(ours, theirs, sizeof(ours));
	}
}

// sha256_of() takes one or the other, by the size.
static void test_long(void **state)
{
	(void)state;
	static uint8_t data[100 * 1000];
	for (size_t size = 16 * 1024 - 1; size <= sizeof(data); size += 41808) {
		uint8_t digest[SHA256_SIZE], again[SHA256_SIZE];
		struct sha256_plain plain;
		memset(data, (int)size, size);
		sha256_of(data, size, digest);
		sha256_plain_init(&plain);
		sha256_plain_update(&plain, data, size);
		sha256_plain_final(&plain, again);
		assert_memory_equal(digest, again, sizeof(digest));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_known),
		cmocka_unit_test(test_plain), cmocka_unit_test(test_long)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
