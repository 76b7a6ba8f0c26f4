// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int scratch = -1; // a fresh folder for each test
static char scratch_path[64];

static int setup(void **state)
{
	(void)state;
	snprintf(scratch_path, sizeof(scratch_path), "/tmp/stoker-test-XXXXXX");
	assert_non_null(mkdtemp(scratch_path));
	scratch = open(scratch_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return scratch < 0;
}

static int teardown(void **state)
{
	(void)state;
	struct error err;
	close(scratch);
	return directory_remove(AT_FDCWD, scratch_path, &err);
}

static void put(const char *path, const char *text)
{
	struct error err;
	if (file_write_atomic(scratch, path, text, strlen(text), 0644, &err) < 0)
		fail_msg("%s", err.text);
}

static int entry_count(int folder)
{
	int count = -2; // . and ..
	DIR *d = fdopendir(openat(folder, ".", O_RDONLY | O_DIRECTORY));
	assert_non_null(d);
	while (readdir(d))
		count++;
	closedir(d);
	return count;
}

static bool exists(const char *path)
{
	return faccessat(scratch, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_read(void **state)
{
	(void)state;
	struct error err = {0};
	cleanup_buffer struct buffer b = {0};
	put("five", "12345");
	put("empty", "");
	buffer_puts(&b, "0");
	assert_int_equal(file_read(scratch, "five", 5, &b, &err), 0);
	assert_string_equal(b.data, "012345");
	assert_int_equal(file_read(scratch, "empty", 0, &b, &err), 0);
	assert_int_equal(file_read(scratch, "five", SIZE_MAX, &b, &err), 0);
	assert_string_equal(b.data, "01234512345");
	assert_int_equal(file_read(scratch, "five", 4, &b, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_string_equal(err.text, "five: larger than the limit of 4 bytes");
	assert_string_equal(b.data, "01234512345");
	assert_int_equal(file_read(scratch, "missing", 4, &b, &err), -1);
	assert_int_equal(err.kind, ERROR_NOT_FOUND);
	assert_string_equal(err.text, "open missing: No such file or directory");
	assert_int_equal(file_read(scratch, ".", 4, &b, &err), -1);
	assert_string_equal(err.text, "read .: Is a directory");
	// Files in /proc state a size of 0.
	buffer_clear(&b);
	assert_int_equal(file_read(AT_FDCWD, "/proc/self/status", 1 << 20, &b, &err), 0);
	assert_true(b.size > 100);
	assert_int_equal(file_read(AT_FDCWD, "/proc/self/status", 10, &b, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
}

static void test_write_atomic(void **state)
{
	(void)state;
	struct error err = {0};
	struct stat st;
	cleanup_buffer struct buffer b = {0};
	mode_t before = umask(077);
	put("a", "old");
	put("a", "new");
	umask(before);
	assert_int_equal(fstatat(scratch, "a", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644); // exactly, whatever the umask
	assert_int_equal(file_read(scratch, "a", 9, &b, &err), 0);
	assert_string_equal(b.data, "new");
	assert_int_equal(entry_count(scratch), 1);
	static const struct {
		const char *path;
		enum error_kind kind;
		const char *text;
	} cases[] = {
		{"", ERROR_INVALID, "write : not the name of a file"},
		{"x/", ERROR_INVALID, "write x/: not the name of a file"},
		{"x/..", ERROR_INVALID, "write x/..: not the name of a file"},
		{"x/y", ERROR_NOT_FOUND, "write x/y: open folder x/: No such file or directory"},
		{"a/y", ERROR_SYSTEM, "write a/y: open folder a/: Not a directory"},
	};
	for (size_t i = 0; i < array_size(cases); i++) {
		assert_int_equal(file_write_atomic(scratch, cases[i].path, "x", 1, 0600, &err), -1);
		assert_string_equal(err.text, cases[i].text);
		assert_int_equal(err.kind, cases[i].kind);
	}
	// The rename fails: the temporary file goes away again.
	assert_int_equal(mkdirat(scratch, "folder", 0755), 0);
	assert_int_equal(file_write_atomic(scratch, "folder", "x", 1, 0600, &err), -1);
	assert_non_null(strstr(err.text, "Is a directory"));
	assert_int_equal(entry_count(scratch), 2);
}

static void test_directory_make(void **state)
{
	(void)state;
	struct error err = {0};
	struct stat st;
	mode_t before = umask(077);
	assert_int_equal(directory_make(scratch, "a/b//c/", 0755, &err), 0);
	umask(before);
	assert_int_equal(fstatat(scratch, "a/b/c", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0755);
	assert_int_equal(fstatat(scratch, "a", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0755);
	assert_int_equal(directory_make(scratch, "a/b", 0700, &err), 0);
	assert_int_equal(fstatat(scratch, "a/b", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0755); // existing ones keep theirs
	put("a/file", "");
	assert_int_equal(directory_make(scratch, "a/file", 0755, &err), -1);
	assert_string_equal(err.text, "make folder a/file: Not a directory");
	assert_int_equal(directory_make(scratch, "a/file/x", 0755, &err), -1);
	assert_string_equal(err.text, "make folder a/file: Not a directory");
	assert_int_equal(directory_make(scratch, "", 0755, &err), -1);
	cleanup_fd int fd = directory_ensure(scratch, "d/e", 0755, &err);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(directory_open(scratch, "nothing", &err), -1);
	assert_string_equal(err.text, "open folder nothing: No such file or directory");
}

static void test_remove(void **state)
{
	(void)state;
	struct error err = {0};
	assert_int_equal(directory_make(scratch, "keep/inside", 0755, &err), 0);
	put("keep/file", "kept");
	assert_int_equal(directory_make(scratch, "t/a/b", 0755, &err), 0);
	put("t/file", "");
	put("t/a/b/.hidden", "");
	assert_int_equal(symlinkat("../keep", scratch, "t/link"), 0);
	assert_int_equal(symlinkat("../../keep", scratch, "t/a/link"), 0);
	assert_int_equal(symlinkat("nowhere", scratch, "t/a/dangling"), 0);
	assert_int_equal(directory_make(scratch, "t/locked/in", 0755, &err), 0);
	assert_int_equal(fchmodat(scratch, "t/locked/in", 0, 0), 0);
	assert_int_equal(fchmodat(scratch, "t/locked", 0, 0), 0);
	assert_int_equal(fchmodat(scratch, "t/a/b", 0500, 0), 0);
	if (directory_remove(scratch, "t/", &err) < 0)
		fail_msg("%s", err.text);
	assert_false(exists("t"));
	assert_true(exists("keep/inside") && exists("keep/file"));
	assert_int_equal(directory_remove(scratch, "t", &err), 0); // missing is fine
	assert_int_equal(directory_remove(scratch, "no/t", &err), 0);
	assert_int_equal(symlinkat("keep", scratch, "top"), 0);
	assert_int_equal(directory_remove(scratch, "top", &err), 0); // the link, not its target
	assert_true(exists("keep/file") && !exists("top"));
	assert_int_equal(directory_remove(scratch, "keep/file", &err), 0);
	assert_false(exists("keep/file"));
	static const char *const refused[] = {"", ".", "..", "keep/.", "keep/..", "/"};
	for (size_t i = 0; i < array_size(refused); i++) {
		assert_int_equal(directory_remove(scratch, refused[i], &err), -1);
		assert_int_equal(err.kind, ERROR_INVALID);
	}
	assert_int_equal(directory_remove(AT_FDCWD, "/proc", &err), -1);
	assert_string_equal(
		err.text, geteuid() ? "remove /proc: 'proc': Permission denied"
				    : "remove /proc: 'proc' is a mount point; unmount it first");
}

// Deeper than PATH_MAX and than the descriptors that may be open; every level has a second folder
// and a file, so that the outer streams have to go on where they were.
static void test_remove_deep(void **state)
{
	(void)state;
	struct error err = {0};
	enum { DEPTH = 300 };
	int fd = directory_ensure(scratch, "deep", 0755, &err);
	for (int i = 0; i < DEPTH; i++) {
		assert_int_equal(mkdirat(fd, "a-second-one", 0755), 0);
		assert_int_equal(mkdirat(fd, "a-level-with-a-long-name", 0755), 0);
		assert_int_equal(mknodat(fd, "file", S_IFREG | 0644, 0), 0);
		int next = openat(fd, "a-level-with-a-long-name", O_RDONLY | O_DIRECTORY);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
	if (directory_remove(scratch, "deep", &err) < 0)
		fail_msg("%s", err.text);
	assert_false(exists("deep"));
}

static void test_remove_wide(void **state)
{
	(void)state;
	struct error err = {0};
	cleanup_fd int fd = directory_ensure(scratch, "wide", 0755, &err);
	for (int i = 0; i < 500; i++) {
		char name[32];
		snprintf(name, sizeof(name), "%d", i);
		assert_int_equal(mkdirat(fd, name, 0755), 0);
	}
	assert_int_equal(directory_remove(scratch, "wide", &err), 0);
	assert_false(exists("wide"));
}

static void test_open_beneath(void **state)
{
	(void)state;
	struct error err = {0};
	assert_int_equal(directory_make(scratch, "root/etc", 0755, &err), 0);
	put("root/etc/name", "inside");
	put("name", "outside");
	assert_int_equal(symlinkat("/etc/name", scratch, "root/absolute"), 0);
	assert_int_equal(symlinkat("../name", scratch, "root/up"), 0);
	assert_int_equal(symlinkat("ring", scratch, "root/ring"), 0);
	cleanup_fd int root = directory_open(scratch, "root", &err);
	static const struct {
		const char *path;
		uint64_t resolve;
		enum error_kind kind; // ERROR_NONE: opens
		const char *text;
	} cases[] = {
		{"etc/name", 0, ERROR_NONE, NULL},
		{"etc/../etc/name", 0, ERROR_NONE, NULL},
		{"absolute", RESOLVE_IN_ROOT, ERROR_NONE, NULL},
		{"/etc/name", RESOLVE_IN_ROOT, ERROR_NONE, NULL},
		{"../etc/name", RESOLVE_IN_ROOT, ERROR_NONE, NULL},
		{"absolute", 0, ERROR_INVALID,
			"open absolute: the path leads outside of its folder"},
		{"up", 0, ERROR_INVALID, "open up: the path leads outside of its folder"},
		{"../name", 0, ERROR_INVALID, "open ../name: the path leads outside of its folder"},
		{"/etc/passwd", 0, ERROR_INVALID,
			"open /etc/passwd: the path leads outside of its folder"},
		{"ring", 0, ERROR_INVALID, "open ring: Too many levels of symbolic links"},
		{"absolute", RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS, ERROR_INVALID,
			"open absolute: Too many levels of symbolic links"},
		{"etc/no", 0, ERROR_NOT_FOUND, "open etc/no: No such file or directory"},
	};
	for (size_t i = 0; i < array_size(cases); i++) {
		// A mode where nothing is created must not trouble the kernel.
		int fd = file_open_beneath(
			root, cases[i].path, O_RDONLY, 0644, cases[i].resolve, &err);
		assert_int_equal(fd >= 0, cases[i].kind == ERROR_NONE);
		if (fd < 0) {
			assert_string_equal(err.text, cases[i].text);
			assert_int_equal(err.kind, cases[i].kind);
			continue;
		}
		char text[16] = "";
		assert_int_equal(read(fd, text, sizeof(text) - 1), 6);
		assert_string_equal(text, "inside");
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		close(fd);
	}
	cleanup_fd int made = file_open_beneath(
		root, "etc/new", O_WRONLY | O_CREAT | O_EXCL, S_IFREG | 0600, 0, &err);
	assert_true(made >= 0);
}

static void test_lock(void **state)
{
	(void)state;
	struct error err = {0};
	cleanup_fd int a = openat(scratch, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cleanup_fd int b = openat(scratch, "lock", O_RDWR | O_CLOEXEC);
	assert_int_equal(file_lock(a, LOCK_EX, "lock", &err), 0);
	assert_int_equal(file_lock(b, LOCK_EX | LOCK_NB, "lock", &err), 1);
	assert_int_equal(file_lock(a, LOCK_UN, "lock", &err), 0);
	assert_int_equal(file_lock(b, LOCK_SH | LOCK_NB, "lock", &err), 0);
	assert_int_equal(file_lock(-1, LOCK_SH, "lock", &err), -1);
	assert_string_equal(err.text, "lock lock: Bad file descriptor");
}

static void test_pwrite(void **state)
{
	(void)state;
	struct error err = {0};
	char text[8] = "";
	cleanup_fd int fd = openat(scratch, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write_all(fd, "abcd", 4, "f", &err), 0);
	assert_int_equal(pwrite_all(fd, "XY", 2, 1, "f", &err), 0);
	assert_int_equal(pread(fd, text, sizeof(text), 0), 4);
	assert_string_equal(text, "aXYd");
	assert_int_equal(write_all(-1, "x", 1, "f", &err), -1);
	assert_string_equal(err.text, "write f: Bad file descriptor");
	assert_int_equal(write_all(-1, "", 0, "f", &err), 0);
}

static void test_paths(void **state)
{
	(void)state;
	static const struct {
		const char *a, *b, *joined;
	} joins[] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
	for (size_t i = 0; i < array_size(joins); i++) {
		cleanup_free char *s = path_join(joins[i].a, joins[i].b);
		assert_string_equal(s, joins[i].joined);
	}
	assert_string_equal(path_base("a/b"), "b");
	assert_string_equal(path_base("b"), "b");
	assert_string_equal(path_base("a/"), "");
	cleanup_free char *current = getcwd(NULL, 0);
	static const struct {
		const char *path, *behind; // behind the current folder
	} paths[] = {{".", ""}, {"./", ""}, {"x", "/x"}, {"././/x", "/x"}, {"../x", "/../x"},
		{".x", "/.x"}, {"./..", "/.."}};
	struct error err = {0};
	for (size_t i = 0; i < array_size(paths); i++) {
		cleanup_free char *s = path_absolute(paths[i].path, &err);
		cleanup_free char *expected = xasprintf("%s%s", current, paths[i].behind);
		assert_string_equal(s, expected);
	}
	cleanup_free char *absolute = path_absolute("/a/./b", &err);
	assert_string_equal(absolute, "/a/./b");
	assert_null(path_absolute("", &err));
	assert_string_equal(err.text, "the path is empty");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_read),
		T(test_write_atomic),
		T(test_directory_make),
		T(test_remove),
		T(test_remove_deep),
		T(test_remove_wide),
		T(test_open_beneath),
		T(test_lock),
		T(test_pwrite),
		T(test_paths),
	};
#undef T
	return cmocka_run_group_tests(tests, NULL, NULL);
}
