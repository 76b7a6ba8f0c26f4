// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/part.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int sidecar(void)
{
	int fd = memfd_create("sidecar", MFD_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void divides_a_blob_into_chunks(void **state)
{
	static const struct {
		uint64_t size;
		uint32_t chunks;
		uint64_t last_size;
	} cases[] = {
		{0, 0, 0},
		{1, 1, 1},
		{PART_CHUNK, 1, PART_CHUNK},
		{PART_CHUNK + 1, 2, 1},
		{3 * (uint64_t)PART_CHUNK - 1, 3, PART_CHUNK - 1},
		{(uint64_t)5 << 32, 5120, PART_CHUNK},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = sidecar();
		struct part p;
		struct error err = {0};
		assert_int_equal(part_open(fd, cases[i].size, &p, &err), 0);
		assert_int_equal(p.chunk_count, cases[i].chunks);
		assert_int_equal(part_total(&p), 0);
		assert_int_equal(part_contiguous(&p), 0);
		if (p.chunk_count) {
			uint32_t last = p.chunk_count - 1;
			assert_int_equal(part_chunk_start(&p, last), (uint64_t)last * PART_CHUNK);
			assert_int_equal(part_chunk_size(&p, last), cases[i].last_size);
		}
		part_close(&p);
		close(fd);
	}
}

static void counts_what_is_there(void **state)
{
	(void)state;
	int fd = sidecar();
	struct part p;
	struct error err = {0};
	assert_int_equal(part_open(fd, 2 * (uint64_t)PART_CHUNK + 100, &p, &err), 0);
	part_add(&p, 1, PART_CHUNK);
	assert_int_equal(part_contiguous(&p), 0);
	part_add(&p, 0, 1000);
	assert_int_equal(part_contiguous(&p), 1000);
	part_add(&p, 0, PART_CHUNK - 1000);
	assert_int_equal(part_contiguous(&p), 2 * (uint64_t)PART_CHUNK);
	part_add(&p, 2, 99);
	assert_int_equal(part_contiguous(&p), p.size - 1);
	assert_int_equal(part_total(&p), p.size - 1);
	part_add(&p, 2, 50); // never over the chunk's size
	assert_int_equal(part_have(&p, 2), 100);
	assert_int_equal(part_contiguous(&p), p.size);
	part_close(&p);
	close(fd);
}

static void remembers_across_openings(void **state)
{
	(void)state;
	int fd = sidecar();
	struct part p;
	struct error err = {0};
	assert_int_equal(part_open(fd, 3 * (uint64_t)PART_CHUNK, &p, &err), 0);
	part_add(&p, 0, 7);
	part_add(&p, 2, 9);
	part_close(&p);
	assert_int_equal(part_open(fd, 3 * (uint64_t)PART_CHUNK, &p, &err), 0);
	assert_int_equal(part_have(&p, 0), 7);
	assert_int_equal(part_have(&p, 1), 0);
	assert_int_equal(part_have(&p, 2), 9);
	assert_int_equal(part_total(&p), 16);
	part_close(&p);
	close(fd);
}

// Whatever stands in the sidecar that this size cannot have written: all chunks are empty again.
static void starts_anew_when_damaged(void **state)
{
	enum { SIZE = 2 * PART_CHUNK };
	static const struct {
		const char *why;
		off_t length; // -1: as it was
		off_t at;
		const char *bytes;
		size_t count;
		uint64_t size;
	} cases[] = {
		{"torn", 10, 0, "", 0, SIZE},
		{"longer", 4096, 0, "", 0, SIZE},
		{"other magic", -1, 0, "x", 1, SIZE},
		{"other size, as many chunks", -1, 0, "", 0, SIZE - 1},
		{"other chunk size", -1, 16, "\1", 1, SIZE},
		{"more than a chunk holds", -1, 24, "\1\0\x40\0", 4, SIZE},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = sidecar();
		struct part p;
		struct error err = {0};
		assert_int_equal(part_open(fd, SIZE, &p, &err), 0);
		part_add(&p, 0, 100);
		part_add(&p, 1, 100);
		part_close(&p);
		if (cases[i].length >= 0)
			assert_int_equal(ftruncate(fd, cases[i].length), 0);
		assert_int_equal(pwrite(fd, cases[i].bytes, cases[i].count, cases[i].at),
			(ssize_t)cases[i].count);
		assert_int_equal(part_open(fd, cases[i].size, &p, &err), 0);
		if (part_total(&p) != 0)
			fail_msg("%s: still there", cases[i].why);
		assert_int_equal(part_have(&p, 0) + part_have(&p, 1), 0);
		part_close(&p);
		close(fd);
	}
}

static void refuses_what_it_cannot_do(void **state)
{
	(void)state;
	struct part p = {0};
	struct error err = {0};
	int fd = sidecar();
	assert_int_equal(part_open(fd, UINT64_MAX, &p, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_string_equal(
		err.text, "a blob of 18446744073709551615 bytes is over the limit of 4 TiB");
	close(fd);
	assert_int_equal(part_open(-1, 10, &p, &err), -1);
	assert_int_equal(err.sys, EBADF);
	assert_null(p.header);
	part_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(divides_a_blob_into_chunks),
		cmocka_unit_test(counts_what_is_there),
		cmocka_unit_test(remembers_across_openings),
		cmocka_unit_test(starts_anew_when_damaged),
		cmocka_unit_test(refuses_what_it_cannot_do),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
