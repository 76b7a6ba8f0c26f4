// SPDX-License-Identifier: Apache-2.0
#include "agent/job/packages.h"

#include "base/file.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct file {
	const char *name, *text;
};

// A folder with the files, in TMPDIR; removed again by folder_remove().
static int folder_make(char path[64], const struct file *files)
{
	struct error err = {0};
	snprintf(path, 64, "/tmp/test_packages.XXXXXX");
	assert_non_null(mkdtemp(path));
	int fd = directory_open(AT_FDCWD, path, &err);
	assert_true(fd >= 0);
	assert_int_equal(mkdirat(fd, "sub", 0755), 0);
	for (; files->name; files++)
		assert_int_equal(file_write_atomic(fd, files->name, files->text,
					 strlen(files->text), 0644, &err),
			0);
	return fd;
}

static void folder_remove(const char *path, int fd)
{
	struct error err = {0};
	close(fd);
	assert_int_equal(directory_remove(AT_FDCWD, path, &err), 0);
}

static void put(struct buffer *b, const char *title, const struct json_strings *list)
{
	for (size_t i = 0; i < list->count; i++)
		buffer_printf(b, "%s[%s]", i ? "" : title, list->items[i]);
}

static void describe(struct buffer *b, const struct job_environment *e)
{
	put(b, "conda", &e->conda);
	put(b, "channels", &e->channels);
	put(b, "pip", &e->pip);
	put(b, "constraints", &e->constraints);
	if (e->index_url)
		buffer_printf(b, "index[%s]", e->index_url);
	put(b, "extra", &e->extra_index_urls);
	put(b, "binary", &e->only_binary);
	buffer_puts(b, e->pre ? "pre" : "");
}

struct test_case {
	const char *text, *other, *expected; // expected: what was read, or a part of the error
};

static void check(const struct test_case *c, bool conda)
{
	char path[64];
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer got = {0};
	const struct file files[] = {{"first", c->text}, {"sub/other", c->other ? c->other : ""},
		{"sub/leaf", "leaf\n"}, {NULL, NULL}};
	struct job_environment e = {0};
	struct json_pairs variables = {0};
	struct error err = {0};
	int fd = folder_make(path, files);
	int rc = conda ? packages_read_conda(&a, fd, "first", &e, &variables, &err)
		       : packages_read_pip(&a, fd, "first", &e, &err);
	if (rc < 0)
		buffer_printf(&got, "error: %s", err.text);
	else
		describe(&got, &e);
	for (size_t i = 0; i < variables.count; i++)
		buffer_printf(&got, "%s=%s", variables.items[i].key, variables.items[i].value);
	folder_remove(path, fd);
	bool fails = starts_with(c->expected, "error");
	if (fails ? !starts_with(got.data, "error") || !strstr(got.data, c->expected + 7)
		  : !streq(got.data ? got.data : "", c->expected))
		fail_msg("%s: %s", c->text, got.data ? got.data : "");
}

static void reads_requirements(void **state)
{
	static const struct test_case cases[] = {
		{"", NULL, ""},
		{"\n# only\n   # comments\n\n", NULL, ""},
		{"a\nb==1 # why\n c#d \r\n", NULL, "pip[a][b==1][c#d]"},
		{"\xEF\xBB\xBF"
		 "a",
			NULL, "pip[a]"},
		{"a \\\n  --hash=sha256:1 \\\n  --hash=sha256:2\nb", NULL,
			"pip[a    --hash=sha256:1    --hash=sha256:2][b]"},
		{"a\\\n# c\nb", NULL, "pip[a][b]"},
		{"a\\", NULL, "pip[a\\]"},
		{"a; python_version<'3'", NULL, "pip[a; python_version<'3']"},
		{"a[x,y]~=1.0", NULL, "pip[a[x,y]~=1.0]"},
		{"a @ https://h/a.whl#sha256=1", NULL, "pip[a @ https://h/a.whl#sha256=1]"},
		{"a\n-r sub/other\nz", "-r leaf\nb", "pip[a][leaf][b][z]"},
		{"--requirement=sub/other", "b", "pip[b]"},
		{"-rsub/other", "b", "pip[b]"},
		{"-r sub/../sub/other", "b", "pip[b]"},
		{"a\n-c sub/other", "b<2\n-r leaf", "pip[a]constraints[b<2][leaf]"},
		{"--index-url https://h/s --extra-index-url=http://i/s\n--pre\n"
		 "--only-binary :all:\n--require-hashes",
			NULL, "index[https://h/s]extra[http://i/s]binary[:all:]pre"},
		{"-i https://h/s\n-r sub/other", "-i https://h/s", "index[https://h/s]"},
		{"-i https://h/s\n-r sub/other", "-i https://i/s",
			"error: first:2: sub/other:1: --index-url: there is another one"},
		{"a\n\n-e .", NULL, "error: first:3: -e: editable packages are not installed"},
		{"-e git+https://h/x", NULL, "editable packages"},
		{"-r ../x", NULL, "error"},
		{"-r /etc/passwd", NULL, "error: /etc/passwd: only files below source_directory"},
		{"-r https://h/x", NULL, "error: https://h/x: only files below source_directory"},
		{"-r nope", NULL, "error: nope is not in source_directory"},
		{"-r sub", NULL, "error: sub is not a file"},
		{"-r", NULL, "error: -r: what it names is missing"},
		{"-r first", NULL, "error: first names itself"},
		{"-r sub/other", "-r ../first", "names itself"},
		{"./x", NULL, "error: first:1: \"./x\" is a path"},
		{"sub", NULL, "pip[sub]"},
		{"x.tar.gz", NULL, "error: is a path"},
		{"file:///x", NULL, "error: is a path"},
		{"-f https://h/x", NULL, "error: serve them as an index"},
		{"--find-links=x", NULL, "error: serve them as an index"},
		{"--trusted-host h", NULL, "error: which servers are trusted is the node's"},
		{"--no-such", NULL, "error: options of pip are not supported here"},
		{"-i https://u:p@h/x", NULL, "error: must not have a user or password"},
		{"-i https://${T}/x", NULL, "error: variables are not replaced"},
		{"a @ https://t@h/x", NULL, "error: must not have a user, password or token"},
		{"a --install-option=x", NULL, "error: options of pip are not supported here"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct test_case c = cases[i];
		cleanup_free char *expected = NULL;
		if (streq(c.expected, "editable packages") || streq(c.expected, "names itself"))
			c.expected = expected = xasprintf("error: %s", c.expected);
		else if (streq(c.expected, "error"))
			c.expected = "error: first:1";
		check(&c, false);
	}
}

static void reads_conda_files(void **state)
{
	static const struct test_case cases[] = {
		{"name: x\nprefix: /x\nchannels: [conda-forge, nodefaults]\n"
		 "dependencies:\n- python=3.11\n- pip\n- pip:\n  - a==1\n  - -r sub/other\n"
		 "variables: {A: 1.10}\n",
			"b", "conda[python=3.11][pip]channels[conda-forge]pip[a==1][b]A=1.10"},
		{"dependencies: []", NULL, ""},
		{"name: x", NULL, "error: key \"dependencies\" is missing"},
		{"", NULL, "error: must be an object"},
		{"dependencies: {a: b}", NULL, "error: first:1:15: dependencies: must be a list"},
		{"dependencies: [3.11]", NULL, "error: dependencies[0]: must be a string; put it"},
		{"dependencies: [{npm: [x]}]", NULL, "error: only pip: may have a list"},
		{"dependencies: [{pip: x}]", NULL, "error: dependencies[0].pip: must be a list"},
		{"dependencies: [{pip: [-e .]}]", NULL,
			"error: first:1:23: dependencies[0].pip[0]: -e: editable packages"},
		{"dependencies: [/x]", NULL, "error: is an address or a path"},
		{"dependencies: []\nchannels: ['file:///x']", NULL,
			"error: channels[0]: must begin"},
		{"dependencies: []\nchanels: [x]", NULL, "error: did you mean \"channels\"?"},
		{"dependencies: [&a x, *a]", NULL, "error"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct test_case c = cases[i];
		if (streq(c.expected, "error"))
			c.expected = "error: first:1";
		check(&c, true);
	}
}

static void stays_below_the_folder(void **state)
{
	char path[64];
	cleanup_arena struct arena a = {0};
	const struct file files[] = {{"in", "a\n"}, {NULL, NULL}};
	struct job_environment e = {0};
	struct error err = {0};
	int fd = folder_make(path, files);

	(void)state;
	assert_int_equal(symlinkat("/etc/hostname", fd, "out"), 0);
	assert_int_equal(symlinkat("../in", fd, "sub/link"), 0);
	assert_int_equal(mkfifoat(fd, "fifo", 0600), 0);
	assert_int_equal(packages_read_pip(&a, fd, "out", &e, &err), -1);
	assert_int_equal(packages_read_pip(&a, fd, "fifo", &e, &err), -1);
	assert_string_equal(err.text, "fifo is not a file");
	assert_int_equal(packages_read_pip(&a, fd, "sub/link", &e, &err), 0);
	assert_int_equal(e.pip.count, 1);
	folder_remove(path, fd);
}

static void has_limits(void **state)
{
	char path[64];
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer many = {0}, wide = {0}, large = {0};
	struct job_environment e = {0};
	struct error err = {0};

	(void)state;
	for (int i = 0; i <= JOB_PACKAGES_MAX; i++)
		buffer_puts(&many, "a\n");
	for (int i = 0; i < 40; i++)
		buffer_puts(&wide, "-r sub/leaf\n");
	for (int i = 0; i < JOB_PACKAGES_BYTES_MAX / 2; i++)
		buffer_puts(&large, "# \n");
	const struct file files[] = {{"many", many.data}, {"wide", wide.data},
		{"large", large.data}, {"sub/leaf", ""}, {NULL, NULL}};
	int fd = folder_make(path, files);
	assert_int_equal(packages_read_pip(&a, fd, "many", &e, &err), -1);
	assert_string_equal(err.text, "many:2001: more than 2000 packages are named");
	assert_int_equal(packages_read_pip(&a, fd, "wide", &e, &err), -1);
	assert_non_null(strstr(err.text, "more than 32 files name each other"));
	assert_int_equal(packages_read_pip(&a, fd, "large", &e, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	folder_remove(path, fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_requirements),
		cmocka_unit_test(reads_conda_files),
		cmocka_unit_test(stays_below_the_folder),
		cmocka_unit_test(has_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
