// SPDX-License-Identifier: Apache-2.0
#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_alloc(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	unsigned char *parts[200];
	for (size_t i = 0; i < 200; i++) {
		size_t size = i * 37 + 1; // over several chunks, some larger than the next chunk
		parts[i] = arena_alloc(&a, size);
		assert_int_equal((uintptr_t)parts[i] % _Alignof(max_align_t), 0);
		for (size_t k = 0; k < size; k++)
			assert_int_equal(parts[i][k], 0);
		memset(parts[i], (int)i, size);
	}
	for (size_t i = 0; i < 200; i++)
		for (size_t k = 0; k < i * 37 + 1; k++)
			assert_int_equal(parts[i][k], (unsigned char)i);
	assert_true(a.used >= 199 * 200 / 2 * 37 + 200);
	arena_release(&a);
	assert_int_equal(a.used, 0);
	assert_string_equal(arena_strdup(&a, "again"), "again");
}

static void test_text(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	assert_string_equal(arena_strdup(&a, ""), "");
	assert_string_equal(arena_printf(&a, "%d-%s", 7, "x"), "7-x");
	assert_memory_equal(arena_strndup(&a, "a\0bc", 3), "a\0b\0", 4);
	assert_string_equal(arena_strndup(&a, NULL, 0), "");
	int *numbers = arena_array(&a, int, 3);
	assert_int_equal(numbers[2], 0);
	assert_non_null(arena_array(&a, int, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alloc),
		cmocka_unit_test(test_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
