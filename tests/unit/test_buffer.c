// SPDX-License-Identifier: Apache-2.0
#include "base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_append(void **state)
{
	(void)state;
	cleanup_buffer struct buffer b = {0};
	buffer_append(&b, NULL, 0);
	assert_string_equal(b.data, "");
	buffer_puts(&b, "ab");
	buffer_putc(&b, 'c');
	buffer_printf(&b, "%d", 42);
	assert_string_equal(b.data, "abc42");
	assert_int_equal(b.size, 5);
	for (int i = 0; i < 10000; i++)
		buffer_putc(&b, 'x');
	assert_int_equal(b.size, 10005);
	assert_int_equal(b.data[10005], 0);
	buffer_clear(&b);
	assert_int_equal(b.size, 0);
	assert_string_equal(b.data, "");
}

static void test_reserve(void **state)
{
	(void)state;
	cleanup_buffer struct buffer b = {0};
	buffer_puts(&b, "x");
	memcpy(buffer_reserve(&b, 1000), "yz", 2);
	buffer_commit(&b, 2);
	assert_string_equal(b.data, "xyz");
	buffer_reserve(&b, 10);
	buffer_commit(&b, 0);
	assert_string_equal(b.data, "xyz");
}

static void test_consume(void **state)
{
	(void)state;
	cleanup_buffer struct buffer b = {0};
	buffer_consume(&b, 0);
	buffer_puts(&b, "hello");
	buffer_consume(&b, 2);
	assert_string_equal(b.data, "llo");
	buffer_consume(&b, 3);
	assert_int_equal(b.size, 0);
	assert_string_equal(b.data, "");
}

static void test_steal(void **state)
{
	(void)state;
	cleanup_buffer struct buffer b = {0};
	cleanup_free char *empty = buffer_steal(&b);
	assert_string_equal(empty, "");
	buffer_puts(&b, "mine");
	cleanup_free char *text = buffer_steal(&b);
	assert_string_equal(text, "mine");
	assert_null(b.data);
	assert_int_equal(b.size, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_consume),
		cmocka_unit_test(test_steal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
