// SPDX-License-Identifier: Apache-2.0
//
// Two digests in one pass against the library's, at all the places where padding differs.
#include "agent/data/outputs_sha.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { CHUNK = 4096 };

static void check(const uint8_t *data, size_t size, bool fast)
{
	uint8_t expected[SHA256_SIZE], found[SHA256_SIZE];
	struct outputs_sha s;
	outputs_sha_init(&s);
	if (!fast && s.fast) { // as on a machine without the instructions
		s.fast = false;
		s.plain = sha256_new();
	}
	for (size_t at = 0; at < size; at += CHUNK) {
		size_t n = size - at < CHUNK ? size - at : CHUNK;
		outputs_sha_chunk(&s, data + at, n, found);
		sha256_of(data + at, n, expected);
		assert_memory_equal(found, expected, SHA256_SIZE);
	}
	outputs_sha_final(&s, found);
	sha256_of(data, size, expected);
	assert_memory_equal(found, expected, SHA256_SIZE);
	outputs_sha_release(&s);
	outputs_sha_of(data, size, found);
	assert_memory_equal(found, expected, SHA256_SIZE);
}

static void test_all_sizes(void **state)
{
	(void)state;
	static uint8_t data[3 * CHUNK + 200];
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 131 + i / 251);
	for (int fast = 0; fast < 2; fast++) {
		for (size_t size = 0; size < 300; size++)
			check(data, size, fast);
		for (size_t size = CHUNK - 70; size < CHUNK + 70; size++)
			check(data, size, fast);
		check(data, 3 * CHUNK, fast);
		check(data, sizeof(data), fast);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_sizes)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
