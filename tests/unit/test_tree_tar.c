// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"
#include "oci/layer/gzip.h"
#include "oci/layer/gzip_writer.h"
#include "oci/layer/tar_header.h"
#include "oci/layer/tree_tar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct tree {
	char path[32];
	int fd;
};

static int make_tree(void **state)
{
	static struct tree t;
	struct error err;
	snprintf(t.path, sizeof(t.path), "test_tree_tar.XXXXXX");
	assert_non_null(mkdtemp(t.path));
	t.fd = directory_open(AT_FDCWD, t.path, &err);
	assert_true(t.fd >= 0);
	*state = &t;
	return 0;
}

static int remove_tree(void **state)
{
	struct tree *t = *state;
	struct error err;
	close(t->fd);
	return directory_remove(AT_FDCWD, t->path, &err);
}

static void put(const struct tree *t, const char *path, const char *text, mode_t mode)
{
	int fd = openat(t->fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

// The whole archive, read `step` bytes at a time.
static int read_all(const struct tree *t, const struct layer_limits *limits, size_t step,
	struct buffer *out, struct error *err)
{
	cleanup_tree_tar struct tree_tar *tar = tree_tar_new(t->fd, limits);
	for (;;) {
		ssize_t n = tree_tar_read(tar, buffer_reserve(out, step), step, err);
		if (n <= 0)
			return (int)n;
		buffer_commit(out, (size_t)n);
	}
}

static void known_bytes(void **state)
{
	static const struct {
		size_t offset;
		const char *bytes;
		size_t size;
	} expected[] = {
		{0, "bin/\0", 5},
		{100,
			"0000755\0"
			"0000000\0"
			"0000000\0"
			"00000000000\0"
			"02263523000\0",
			48},
		{148, "010004\0 5", 9},
		{257,
			"ustar\0"
			"00",
			8},
		{512, "bin/a\0", 6},
		{612, "0000755", 7},
		{636, "00000000002", 11},
		{668, "0", 1},
		{1024, "x\n\0", 3},
		{1536, "bin/b\0", 6},
		{1692, "1bin/a\0", 7},
		{2048, "s\0", 2},
		{2204, "2bin/a\0", 7},
		{2560, "\0", 1},
	};
	const struct tree *t = *state;
	cleanup_buffer struct buffer whole = {0}, bytewise = {0};
	struct error err = {0};
	assert_int_equal(mkdirat(t->fd, "bin", 0700), 0);
	put(t, "bin/a", "x\n", 0710);
	assert_int_equal(linkat(t->fd, "bin/a", t->fd, "bin/b", 0), 0);
	assert_int_equal(symlinkat("bin/a", t->fd, "s"), 0);
	assert_int_equal(read_all(t, &layer_limits_default, 65536, &whole, &err), 0);
	assert_int_equal(whole.size, 2560 + 1024);
	for (size_t i = 0; i < array_size(expected); i++)
		assert_memory_equal(
			whole.data + expected[i].offset, expected[i].bytes, expected[i].size);
	assert_int_equal(read_all(t, &layer_limits_default, 1, &bytewise, &err), 0);
	assert_int_equal(bytewise.size, whole.size);
	assert_memory_equal(bytewise.data, whole.data, whole.size);
}

static void long_names_get_records(void **state)
{
	(void)state;
	cleanup_buffer struct buffer out = {0};
	char name[121] = {0}, exact[101] = {0};
	memset(name, 'n', 120);
	memset(exact, 'e', 100);
	const struct tar_member fits = {.path = exact, .type = '0', .mode = 0644};
	tar_header_append(&out, &fits);
	assert_int_equal(out.size, TAR_BLOCK);
	buffer_clear(&out);
	const struct tar_member m = {.path = name, .type = '0', .mode = 0644};
	tar_header_append(&out, &m);
	assert_int_equal(out.size, 3 * TAR_BLOCK);
	assert_int_equal(out.data[156], 'x');
	assert_memory_equal(out.data + TAR_BLOCK, "130 path=nnn", 12);
	assert_int_equal(out.data[TAR_BLOCK + 129], '\n');
	// 99 and 100 bytes: the length's own digits decide.
	buffer_clear(&out);
	const struct tar_member large = {.path = "x", .type = '0', .size = UINT64_C(1) << 33};
	tar_header_append(&out, &large);
	assert_memory_equal(out.data + TAR_BLOCK, "19 size=8589934592\n", 19);
	buffer_clear(&out);
	name[0] = '\xff';
	tar_header_append(&out, &m);
	assert_memory_equal(out.data + TAR_BLOCK, "21 hdrcharset=BINARY\n", 21);
}

static void a_file_that_changes_is_refused(void **state)
{
	const struct tree *t = *state;
	char chunk[1536];
	struct error err = {0};
	static const char *const changes[] = {"", "xx", "abcdefgh"};
	for (size_t i = 0; i < array_size(changes); i++) {
		put(t, "f", "12345678", 0644);
		struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
		assert_int_equal(utimensat(t->fd, "f", old, 0), 0);
		cleanup_tree_tar struct tree_tar *tar = tree_tar_new(t->fd, &layer_limits_default);
		assert_int_equal(tree_tar_read(tar, chunk, 514, &err), 514);
		put(t, "f", changes[i], 0644);
		assert_int_equal(tree_tar_read(tar, chunk, sizeof(chunk), &err), -1);
		assert_int_equal(err.kind, ERROR_INVALID);
		assert_non_null(strstr(err.text, "\"f\""));
		assert_non_null(strstr(err.text, "while it was read"));
	}
}

static void limits_hold(void **state)
{
	const struct tree *t = *state;
	static const struct {
		struct layer_limits limits;
		const char *needle;
	} cases[] = {
		{{.entries = 2, .bytes = 100, .metadata_bytes = 1000}, "more than 2 entries"},
		{{.entries = 9, .bytes = 11, .metadata_bytes = 1000}, "more than 11 bytes"},
		{{.entries = 9, .bytes = 100, .metadata_bytes = 20}, "names in the tree"},
	};
	put(t, "a", "1234", 0644);
	put(t, "b", "1234", 0644);
	put(t, "c", "1234", 0644);
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_buffer struct buffer out = {0};
		struct error err = {0};
		assert_int_equal(read_all(t, &cases[i].limits, 4096, &out, &err), -1);
		assert_int_equal(err.kind, ERROR_LIMIT);
		if (!strstr(err.text, cases[i].needle))
			fail_msg("%s", err.text);
	}
}

static void gzip_comes_back(void **state)
{
	(void)state;
	cleanup_gzip_writer struct gzip_writer *w = gzip_writer_new();
	cleanup_buffer struct buffer packed = {0}, again = {0}, plain = {0};
	struct error err = {0};
	for (int i = 0; i < 50000; i++)
		buffer_printf(&plain, "%d,", i * 7919 % 50021);
	for (size_t at = 0; at < plain.size; at += 10000) {
		size_t n = plain.size - at < 10000 ? plain.size - at : 10000;
		assert_int_equal(gzip_writer_run(w, plain.data + at, n, false, &packed, &err), 0);
	}
	assert_int_equal(gzip_writer_run(w, "", 0, true, &packed, &err), 0);
	assert_true(packed.size < plain.size * 2 / 3);
	struct gzip_reader *r = gzip_reader_new();
	size_t used, made;
	char *to = buffer_reserve(&again, plain.size + 1);
	assert_int_equal(gzip_reader_run(r, packed.data, packed.size, &used, true, to,
				 plain.size + 1, &made, &err),
		1);
	gzip_reader_free(r);
	assert_int_equal(made, plain.size);
	assert_memory_equal(to, plain.data, plain.size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(known_bytes, make_tree, remove_tree),
		cmocka_unit_test(long_names_get_records),
		cmocka_unit_test_setup_teardown(
			a_file_that_changes_is_refused, make_tree, remove_tree),
		cmocka_unit_test_setup_teardown(limits_hold, make_tree, remove_tree),
		cmocka_unit_test(gzip_comes_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
