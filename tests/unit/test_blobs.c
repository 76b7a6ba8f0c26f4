// SPDX-License-Identifier: Apache-2.0
#include "controller/files/blobs.h"

#include "base/file.h"
#include "base/text.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

struct place {
	char path[64];
	struct blobs *blobs;
	char id[BLOB_ID_SIZE];
};

static int set_up(void **state)
{
	static struct place p;
	struct error err;
	snprintf(p.path, sizeof(p.path), "/tmp/test_blobs.XXXXXX");
	assert_non_null(mkdtemp(p.path));
	p.blobs = blobs_open(p.path, NULL, &err);
	assert_non_null(p.blobs);
	blob_id_make(p.id);
	*state = &p;
	return 0;
}

static int tear_down(void **state)
{
	struct place *p = *state;
	struct error err;
	blobs_close(p->blobs);
	return directory_remove(AT_FDCWD, p->path, &err);
}

// Returns what blob_append() does; *size is the blob's then.
static int append(struct place *p, uint64_t offset, const char *text, uint64_t *size)
{
	struct blob_writer *w;
	struct error err;
	int rc = blob_append(p->blobs, p->id, offset, &w, size, &err);
	if (rc == 0) {
		assert_int_equal(blob_write(w, text, strlen(text), &err), 0);
		assert_int_equal(blob_finish(w, true, size, &err), 0);
	}
	return rc;
}

static void test_append(void **state)
{
	struct place *p = *state;
	struct error err;
	uint64_t size = 99;
	char text[16] = "";
	assert_int_equal(blob_size(p->blobs, p->id, &size, &err), 0);
	assert_int_equal(size, 0);
	assert_int_equal(blob_read(p->blobs, p->id, 0, text, sizeof(text), &err), 0);
	assert_int_equal(append(p, 0, "hello", &size), 0);
	assert_int_equal(size, 5);
	// Again, as a client does that lost the answer; and too far on.
	assert_int_equal(append(p, 0, "hello", &size), 1);
	assert_int_equal(size, 5);
	assert_int_equal(append(p, 6, "x", &size), 1);
	assert_int_equal(append(p, 5, " you", &size), 0);
	assert_int_equal(size, 9);
	assert_int_equal(blob_read(p->blobs, p->id, 3, text, sizeof(text), &err), 6);
	assert_memory_equal(text, "lo you", 6);
}

static void hash_is(struct place *p, uint64_t size, const char *text)
{
	uint8_t digest[SHA256_SIZE];
	char expected[SHA256_HEX_SIZE], hex[SHA256_HEX_SIZE] = "";
	struct error err;
	sha256_of(text, (size_t)size, digest);
	sha256_hex(digest, expected);
	assert_int_equal(blob_sha256(p->blobs, p->id, size, hex, &err), 0);
	assert_string_equal(hex, expected);
}

static void test_hash(void **state)
{
	struct place *p = *state;
	struct error err;
	uint64_t size;
	char hex[SHA256_HEX_SIZE];
	append(p, 0, "one", &size);
	append(p, 3, "two", &size);
	hash_is(p, 6, "onetwo"); // remembered
	hash_is(p, 6, "onetwo"); // read
	hash_is(p, 4, "onet");
	append(p, 6, "three", &size);
	hash_is(p, 11, "onetwothree");
	assert_int_equal(blob_sha256(p->blobs, p->id, 12, hex, &err), -1);
	assert_int_equal(err.kind, ERROR_INTEGRITY);
}

// Another controller on the same folder has appended meanwhile: what this one remembers is of less.
static void test_two_controllers(void **state)
{
	struct place *p = *state, other = *p;
	struct error err;
	uint64_t size;
	other.blobs = blobs_open(p->path, NULL, &err);
	append(p, 0, "one", &size);
	assert_int_equal(append(&other, 3, "two", &size), 0);
	assert_int_equal(append(p, 3, "two", &size), 1);
	assert_int_equal(append(p, 6, "three", &size), 0);
	hash_is(p, 11, "onetwothree");
	hash_is(&other, 6, "onetwo");
	blobs_close(other.blobs);
}

static void test_copy_and_remove(void **state)
{
	struct place *p = *state;
	char to[BLOB_ID_SIZE], text[8];
	struct error err;
	uint64_t size;
	append(p, 0, "0123456789", &size);
	blob_id_make(to);
	size = 0;
	assert_int_equal(blob_copy(p->blobs, p->id, 2, 5, to, &size, &err), 0);
	assert_int_equal(size, 5);
	assert_int_equal(blob_read(p->blobs, to, 0, text, sizeof(text), &err), 5);
	assert_memory_equal(text, "23456", 5);
	size = 0;
	assert_int_equal(blob_copy(p->blobs, p->id, 2, 5, to, &size, &err), 1);
	assert_int_equal(size, 5);
	assert_int_equal(blob_copy(p->blobs, p->id, 8, 5, to, &size, &err), -1);
	assert_int_equal(err.kind, ERROR_INTEGRITY);
	assert_int_equal(blob_remove(p->blobs, to, &err), 0);
	assert_int_equal(blob_remove(p->blobs, to, &err), 0);
	assert_int_equal(blob_size(p->blobs, to, &size, &err), 0);
	assert_int_equal(size, 0);
}

// One that is told to be large goes through blocks and another thread: it is the same, in pieces of
// any size, in two appends, one of which ends early.
static void test_large(void **state)
{
	enum { SIZE = 3 * 1024 * 1024 + 17, FIRST = 1024 * 1024 + 5 };
	struct place *p = *state;
	struct blob_writer *w;
	struct error err;
	uint64_t size = 0;
	cleanup_free char *data = xmalloc(SIZE), *back = xmalloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		data[i] = (char)(i * 2654435761U >> 13);
	assert_int_equal(blob_append(p->blobs, p->id, 0, &w, &size, &err), 0);
	blob_expect(w, SIZE);
	for (size_t at = 0, n = 1; at < FIRST; at += n, n = n * 3 % 50021 + 1) {
		n = FIRST - at < n ? FIRST - at : n;
		assert_int_equal(blob_write(w, data + at, n, &err), 0);
	}
	assert_int_equal(blob_finish(w, false, &size, &err), 0);
	assert_int_equal(size, FIRST);
	assert_int_equal(blob_append(p->blobs, p->id, FIRST, &w, &size, &err), 0);
	blob_expect(w, SIZE - FIRST);
	assert_int_equal(blob_write(w, data + FIRST, SIZE - FIRST, &err), 0);
	assert_int_equal(blob_finish(w, true, &size, &err), 0);
	assert_int_equal(size, SIZE);
	assert_int_equal(blob_read(p->blobs, p->id, 0, back, SIZE, &err), SIZE);
	assert_memory_equal(back, data, SIZE);
	// Once as it was remembered, once as it is read again.
	for (int i = 0; i < 2; i++)
		hash_is(p, SIZE, data);
}

// An append that fails keeps what came in order, and its hash is not taken for the whole's.
static void test_large_fails(void **state)
{
	enum { SIZE = 2 * 1024 * 1024, LIMIT = 1024 * 1024 };
	struct place *p = *state;
	struct blob_writer *w;
	struct error err;
	struct rlimit before, limit;
	uint64_t size = 0;
	int rc = 0;
	cleanup_free char *data = xcalloc(1, SIZE);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	limit = (struct rlimit){LIMIT, before.rlim_max};
	assert_int_equal(blob_append(p->blobs, p->id, 0, &w, &size, &err), 0);
	blob_expect(w, SIZE);
	setrlimit(RLIMIT_FSIZE, &limit);
	for (size_t at = 0; rc == 0 && at < SIZE; at += 4096)
		rc = blob_write(w, data + at, 4096, &err);
	setrlimit(RLIMIT_FSIZE, &before);
	assert_int_equal(rc, -1);
	assert_int_equal(err.sys, EFBIG);
	assert_int_equal(blob_write(w, data, 1, &err), 0); // gathered only
	assert_int_equal(blob_finish(w, false, &size, &err), 0);
	assert_int_equal(size, LIMIT);
	hash_is(p, LIMIT, data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_append, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_hash, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_two_controllers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_copy_and_remove, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_large, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_large_fails, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
