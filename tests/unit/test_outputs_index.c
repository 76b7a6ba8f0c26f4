// SPDX-License-Identifier: Apache-2.0
//
// The journal of what is at the destination: remembered, cut off anywhere, of another destination;
// and the rules for links and names, which need no destination.
#include "agent/data/outputs_index.h"

#include "agent/data/outputs_sync.h"
#include "base/file.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { FILES = 300 };

static char folder[] = "/tmp/outputs-index-XXXXXX";
static int run_fd;

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	run_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return run_fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	struct error err;
	(void)state;
	close(run_fd);
	return directory_remove(AT_FDCWD, folder, &err);
}

static void note(struct outputs_index *x, unsigned i, uint32_t chunks, uint32_t first)
{
	struct error err = {0};
	char path[32];
	snprintf(path, sizeof(path), "outputs/f%u", i);
	struct outputs_entry *e = outputs_index_add(x, path);
	assert_non_null(e);
	struct outputs_content *c = &e->content;
	c->chunks = xreallocarray(c->chunks, chunks + 1, SHA256_SIZE);
	for (uint32_t k = first; k < chunks; k++)
		memset(c->chunks[k], (int)(i + k), SHA256_SIZE);
	c->chunk_count = chunks;
	c->sent = (struct outputs_identity){.ino = i, .size = 7 * i};
	c->flags = OUTPUTS_PRESENT;
	e->kind = OUTPUTS_FILE;
	assert_int_equal(outputs_index_note(x, e, first, &err), 0);
}

static void check(const struct outputs_index *x, unsigned i, uint32_t chunks)
{
	char path[32];
	uint8_t expected[SHA256_SIZE];
	snprintf(path, sizeof(path), "outputs/f%u", i);
	const struct outputs_entry *e = outputs_index_find(x, path);
	assert_non_null(e);
	assert_int_equal(e->content.sent.size, 7 * i);
	assert_int_equal(e->content.chunk_count, chunks);
	for (uint32_t k = 0; k < chunks; k++) {
		memset(expected, (int)(i + k), SHA256_SIZE);
		assert_memory_equal(e->content.chunks[k], expected, SHA256_SIZE);
	}
}

static void open_index(struct outputs_index *x, const char *destination)
{
	struct error err = {0};
	assert_int_equal(outputs_index_open(x, run_fd, destination, &err), 0);
}

static void test_it_remembers(void **state)
{
	(void)state;
	struct error err = {0};
	struct outputs_index x;
	open_index(&x, "/a");
	for (unsigned i = 0; i < FILES; i++)
		note(&x, i, i % 3, 0);
	note(&x, 2, 5, 2); // has grown: only the new chunks are written
	struct outputs_entry *gone = outputs_index_find(&x, "outputs/f7");
	assert_int_equal(outputs_index_gone(&x, gone, &err), 0);
	outputs_index_drop(&x, gone);
	assert_null(outputs_index_find(&x, "outputs/f7"));
	assert_int_equal(outputs_index_flush(&x, &err), 0);
	outputs_index_release(&x);

	for (int again = 0; again < 2; again++) {
		open_index(&x, "/a");
		for (unsigned i = 0; i < FILES; i++)
			if (i != 7)
				check(&x, i, i == 2 ? 5 : i % 3);
		assert_null(outputs_index_find(&x, "outputs/f7"));
		outputs_index_release(&x);
	}
	open_index(&x, "/b");
	assert_null(outputs_index_find(&x, "outputs/f1"));
	outputs_index_release(&x);
}

static uint64_t journal_size(void)
{
	struct stat st;
	assert_int_equal(fstatat(run_fd, "upload.journal", &st, 0), 0);
	return (uint64_t)st.st_size;
}

// At every length: what is read is what was written, in order, and nothing else.
static void test_cut_off(void **state)
{
	(void)state;
	struct error err = {0};
	struct outputs_index x;
	cleanup_buffer struct buffer whole = {0};
	open_index(&x, "/cut");
	for (unsigned i = 0; i < 5; i++)
		note(&x, i, i, 0);
	assert_int_equal(outputs_index_flush(&x, &err), 0);
	outputs_index_release(&x);
	assert_int_equal(file_read(run_fd, "upload.journal", 1 << 20, &whole, &err), 0);
	for (size_t n = whole.size % 3; n <= whole.size; n += 3) {
		assert_int_equal(
			file_write_atomic(run_fd, "upload.journal", whole.data, n, 0600, &err), 0);
		open_index(&x, "/cut");
		for (unsigned i = 0; i < x.count; i++)
			check(&x, i, i);
		if (n == whole.size)
			assert_int_equal(x.count, 5);
		outputs_index_release(&x);
	}
	for (size_t at = 0; at < whole.size; at += 13) {
		whole.data[at] ^= 0x55;
		assert_int_equal(file_write_atomic(run_fd, "upload.journal", whole.data, whole.size,
					 0600, &err),
			0);
		open_index(&x, "/cut");
		for (unsigned i = 0; i < x.count; i++)
			check(&x, i, i);
		outputs_index_release(&x);
		whole.data[at] ^= 0x55;
	}
}

static void test_it_stays_small(void **state)
{
	(void)state;
	struct error err = {0};
	struct outputs_index x;
	open_index(&x, "/small");
	for (unsigned n = 0; n < 20000; n++) {
		note(&x, n % 10, 3, 0);
		if (n % 100 == 0)
			assert_int_equal(outputs_index_tidy(&x, &err), 0);
	}
	assert_int_equal(outputs_index_tidy(&x, &err), 0);
	assert_true(journal_size() < 1200 * 1024);
	check(&x, 3, 3);
	outputs_index_release(&x);
}

static void test_links(void **state)
{
	(void)state;
	static const struct {
		const char *path, *text;
		bool inside;
		const char *why;
	} cases[] = {
		{"outputs/l", "a", true, "beside it"},
		{"outputs/l", "./a//b", true, "below"},
		{"outputs/d/l", "../a", true, "up to the top"},
		{"outputs/d/e/l", "../../a", true, "the same, deeper"},
		{"outputs/l", "..", false, "the run's folder"},
		{"outputs/l", "../logs/a", false, "another top folder"},
		{"outputs/d/l", "../../a", false, "one too many"},
		{"outputs/d/l", "x/../a", false, "x may be a link that leads elsewhere"},
		{"outputs/l", "/outputs/a", false, "absolute"},
		{"outputs/l", "", false, "nothing"},
		{"outputs", "a", false, "a top folder is none"},
		{"outputs/l", "..a", true, "a name"},
		{"outputs/l", "a/..b", true, "another"},
	};
	for (size_t i = 0; i < array_size(cases); i++)
		if (outputs_link_stays_inside(cases[i].path, cases[i].text) != cases[i].inside)
			fail_msg("%s -> %s: %s", cases[i].path, cases[i].text, cases[i].why);
}

static void test_escape(void **state)
{
	(void)state;
	static const struct {
		const char *path, *expected;
		bool escaped;
	} cases[] = {
		{"outputs/a%b\n", "outputs/a%b\n", false},
		{"\xc3\xa9", "\xc3\xa9", false},
		{"a\xff%\xc3", "a%FF%25%C3", true},
		{"\xed\xa0\x80", "%ED%A0%80", true},
	};
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_buffer struct buffer b = {0};
		assert_int_equal(outputs_escape(cases[i].path, &b), cases[i].escaped);
		assert_string_equal(b.data, cases[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_it_remembers),
		cmocka_unit_test(test_cut_off), cmocka_unit_test(test_it_stays_small),
		cmocka_unit_test(test_links), cmocka_unit_test(test_escape)};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
