// SPDX-License-Identifier: Apache-2.0
// What people write of packages, and what tools and packages leave behind. The first letter says
// what the rest is.
#include "agent/environment/lock.h"
#include "agent/environment/request.h"
#include "base/file.h"
#include "base/text.h"

#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool condition)
{
	if (!condition)
		abort();
}

static void expect_refusal(const struct error *err)
{
	expect((err->kind == ERROR_INVALID || err->kind == ERROR_LIMIT) && err->text[0]);
}

// A specification in canonical form is its own, and stands in one line.
static void try_spec(
	const char *text, const char *(*spec)(struct arena *a, const char *text, struct error *err))
{
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	const char *once = spec(&a, text, &err);
	if (!once) {
		expect_refusal(&err);
		return;
	}
	expect(*once && *once != '-' && !strpbrk(once, "\r\n\t\\"));
	const char *again = spec(&a, once, &err);
	expect(again && streq(once, again));
}

// What was read can be written, and read again with the same key.
static void round_trip(const struct environment_lock *lock)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer text = {0}, second = {0};
	char key[ENVIRONMENT_KEY_SIZE], again[ENVIRONMENT_KEY_SIZE];
	struct environment_lock read;
	struct error err = {0};
	expect(environment_lock_write(lock, &text, key, &err) == 0);
	expect(environment_lock_parse(&a, text.data, text.size, "lock", &read, &err) == 0);
	expect(environment_lock_write(&read, &second, again, &err) == 0);
	expect(streq(key, again) && streq(text.data, second.data));
	expect((environment_lock_gap(lock) == NULL) == (environment_lock_gap(&read) == NULL));
}

static int read_meta(struct environment_lock *lock, struct arena *a, const char *data, size_t size,
	struct error *err)
{
	static char folder[] = "/tmp/fuzz_environment.XXXXXX";
	cleanup_buffer struct buffer constraints = {0};
	struct error ignored = {0};
	expect(mkdtemp(folder) != NULL);
	cleanup_fd int fd = directory_open(AT_FDCWD, folder, err);
	expect(fd >= 0 && directory_make(fd, "conda-meta", 0700, err) == 0);
	cleanup_fd int file = openat(fd, "conda-meta/x.json", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	expect(file >= 0 && write_all(file, data, size, "x.json", err) == 0);
	int rc = environment_lock_read_conda(lock, a, fd, NULL, NULL, err);
	if (environment_constraints(fd, &constraints, &ignored) == 0 && constraints.size)
		expect(constraints.data[constraints.size - 1] == '\n' &&
			!strpbrk(constraints.data, " ;@#"));
	directory_remove(AT_FDCWD, folder, &ignored);
	memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
	return rc;
}

static void try_lock(char kind, const char *text, size_t size)
{
	cleanup_arena struct arena a = {0};
	struct environment_lock lock = {
		.platform = "linux/amd64",
		.image = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		.tool = "conda",
	};
	struct error err = {0};
	int rc = kind == 'l'   ? environment_lock_parse(&a, text, size, "lock.json", &lock, &err)
		 : kind == 'r' ? environment_lock_read_pip(&lock, &a, text, size, NULL, NULL, &err)
		 : kind == 'f' ? environment_lock_read_freeze(&lock, &a, text, size, &err)
			       : read_meta(&lock, &a, text, size, &err);
	if (rc < 0)
		expect_refusal(&err);
	else
		round_trip(&lock);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	cleanup_free char *text = xstrndup((const char *)data + 1, size - 1);
	if (*data == 'c')
		try_spec(text, environment_conda_spec);
	else if (*data == 'p')
		try_spec(text, environment_pip_requirement);
	else if (*data && strchr("lrfm", *data))
		try_lock((char)*data, (const char *)data + 1, size - 1);
	return 0;
}
