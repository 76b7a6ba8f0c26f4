// SPDX-License-Identifier: Apache-2.0
#include "agent/link/hashing.h"

#include "base/file.h"
#include "base/sha256.h"
#include "base/time.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static int file_of(const char *data, size_t size)
{
	struct error err;
	int fd = memfd_create("test_hashing", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite_all(fd, data, size, 0, "file", &err), 0);
	return fd;
}

static void test_sizes(void **state)
{
	static const size_t sizes[] = {0, 1, 128 * 1024, 300 * 1000};
	cleanup_free char *data = xmalloc(300 * 1000);
	(void)state;
	for (size_t i = 0; i < 300 * 1000; i++)
		data[i] = (char)(i * 2654435761U >> 11);
	cleanup_fd int fd = file_of(data, 300 * 1000);
	for (size_t i = 0; i < array_size(sizes); i++) {
		uint8_t digest[SHA256_SIZE];
		char expected[SHA256_HEX_SIZE];
		struct error err;
		sha256_of(data, sizes[i], digest);
		sha256_hex(digest, expected);
		cleanup_hashing struct hashing *h = hashing_start(fd, "file", sizes[i]);
		assert_string_equal(hashing_wait(h, &err), expected);
		assert_string_equal(hashing_wait(h, &err), expected); // once more
	}
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
}

static void test_shrunk(void **state)
{
	struct error err = {0};
	(void)state;
	cleanup_fd int fd = file_of("hello", 5);
	cleanup_hashing struct hashing *h = hashing_start(fd, "a/b", 6);
	assert_null(hashing_wait(h, &err));
	assert_int_equal(err.kind, ERROR_INTEGRITY);
	assert_string_equal(err.text, "a/b shrank while it was read");
}

// One that is not needed any more is not waited for to its end: this one would take hours.
static void test_stopped(void **state)
{
	(void)state;
	cleanup_fd int fd = file_of("", 0);
	assert_int_equal(ftruncate(fd, (off_t)1 << 44), 0);
	int64_t begin = now_ms();
	hashing_free(hashing_start(fd, "file", (uint64_t)1 << 44));
	assert_true(now_ms() - begin < 60 * 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_shrunk),
		cmocka_unit_test(test_stopped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
