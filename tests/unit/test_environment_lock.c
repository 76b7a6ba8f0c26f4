// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/lock.h"

#include "base/file.h"
#include "base/sha256.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define HEX   "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define IMAGE "sha256:" HEX
#define MD5   "d41d8cd98f00b204e9800998ecf8427e"

#define PACKAGE                                                                    \
	"{\"build\":\"py_0\",\"md5\":\"" MD5 "\",\"name\":\"a\",\"sha256\":\"" HEX \
	"\",\"size\":12,\"url\":\"http://h/c/noarch/a-1-py_0.conda\",\"version\":\"1\"}"
#define WHEEL \
	"{\"name\":\"b-c\",\"sha256\":\"" HEX "\",\"url\":\"https://h/b.whl\",\"version\":\"2\"}"
#define LOCK(conda, pip)                                                                   \
	"{\"conda\":[" conda "],\"image\":\"" IMAGE                                        \
	"\",\"inherit_image_packages\":false,\"pip\":[" pip                                \
	"],\"platform\":\"linux/amd64\",\"prefix\":\"/opt/stoker/env\",\"python\":"        \
	"\"/usr/bin/python3\",\"stoker_lock\":1,\"tool\":{\"name\":\"conda\",\"version\":" \
	"\"23.3.1\"}}"

static int parse(
	struct arena *a, const char *text, struct environment_lock *lock, struct error *err)
{
	return environment_lock_parse(a, text, strlen(text), "lock.json", lock, err);
}

static void is_written_as_it_was_read(void **state)
{
	static const char text[] = LOCK(PACKAGE "\n", WHEEL "\n") "\n";
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer out = {0};
	struct environment_lock lock;
	struct error err = {0};
	char key[ENVIRONMENT_KEY_SIZE], hex[SHA256_HEX_SIZE];
	uint8_t digest[SHA256_SIZE];
	(void)state;
	if (parse(&a, text, &lock, &err) < 0 || environment_lock_write(&lock, &out, key, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(out.data, text);
	const char *hashed = arena_printf(&a, "stoker/env/v1\n%s", text);
	sha256_of(hashed, strlen(hashed), digest);
	sha256_hex(digest, hex);
	assert_string_equal(key, hex);
	assert_null(environment_lock_gap(&lock));
	assert_int_equal(lock.conda[0].size, 12);
	assert_string_equal(lock.pip[0].name, "b-c");
}

// Order and white space of the text change no key; the activation does.
static void has_one_key(void **state)
{
	static const char *const texts[] = {
		LOCK("{\"name\":\"a\",\"version\":\"1\",\"build\":\"0\"},"
		     "{\"name\":\"b\",\"version\":\"1\",\"build\":\"0\"}",
			""),
		LOCK("{\"version\": \"1\", \"name\":\"b\",\"build\":\"0\"},\n"
		     "{\"name\":\"a\",\"version\":\"1\",\"build\":\"0\"}",
			" "),
	};
	char keys[3][ENVIRONMENT_KEY_SIZE];
	cleanup_arena struct arena a = {0};
	struct environment_lock lock;
	struct error err = {0};
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		cleanup_buffer struct buffer out = {0};
		if (parse(&a, texts[i], &lock, &err) < 0 ||
			environment_lock_write(&lock, &out, keys[i], &err) < 0)
			fail_msg("%s", err.text);
		assert_string_equal(environment_lock_gap(&lock), "a");
	}
	assert_string_equal(keys[0], keys[1]);
	cleanup_buffer struct buffer out = {0};
	lock.activation = "none";
	assert_int_equal(environment_lock_write(&lock, &out, keys[2], &err), 0);
	assert_string_not_equal(keys[0], keys[2]);
	assert_int_equal(parse(&a, out.data, &lock, &err), 0);
	assert_string_equal(lock.activation, "none");
}

static void refuses_with_the_place(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{"", "lock.json"},
		{"[]", "must be an object"},
		{"{}", "stoker_lock"},
		{LOCK("{\"name\":\"A\",\"version\":\"1\",\"build\":\"0\"}", ""),
			"conda[0].name: must be a package's name in lower case"},
		{LOCK("{\"name\":\"a\\nb\",\"version\":\"1\",\"build\":\"0\"}", ""),
			"conda[0].name: must be"},
		{LOCK("{\"name\":\"a\",\"version\":\"1\"}", ""), "conda[0].build: must be"},
		{LOCK("{\"name\":\"a\",\"version\":\"1 2\",\"build\":\"0\"}", ""),
			"conda[0].version: must be"},
		{LOCK("", "{\"name\":\"B_c\",\"version\":\"1\"}"), "pip[0].name: must be"},
		{LOCK("", "{\"name\":\"-e\",\"version\":\"1\"}"), "pip[0].name: must be"},
		{LOCK("", "{\"name\":\"b\",\"version\":\"1\",\"build\":\"0\"}"),
			"pip[0].build: is a conda package's"},
		{LOCK("", "{\"name\":\"b\",\"version\":\"1\",\"sha256\":\"12\"}"),
			"pip[0].sha256: must be 64"},
		{LOCK("", "{\"name\":\"b\",\"version\":\"1\",\"md5\":\"12\"}"),
			"pip[0].md5: must be 32"},
		{LOCK("", "{\"name\":\"b\",\"version\":\"1\",\"url\":\"file:///x\"}"),
			"pip[0].url: must be an http(s) address"},
		{LOCK("", "{\"name\":\"b\",\"version\":\"1\",\"url\":\"http://u:p@h/x\"}"),
			"pip[0].url: must be"},
		{LOCK("", "{\"name\":\"b\",\"version\":\"1\",\"url\":\"http://h/x --pre\"}"),
			"pip[0].url: must be"},
		{LOCK("", "{\"name\":\"b\",\"version\":\"1\",\"link\":\"x\"}"),
			"unknown key \"link\""},
		{LOCK("", WHEEL "," WHEEL), "pip: package b-c is there twice"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct environment_lock lock;
		struct error err = {0};
		if (parse(&a, cases[i].text, &lock, &err) == 0)
			fail_msg("accepted %s", cases[i].text);
		assert_int_equal(err.kind, ERROR_INVALID);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s\nlacks: %s", err.text, cases[i].expected);
	}
}

static void refuses_other_documents(void **state)
{
	static const struct {
		const char *from, *to, *expected;
	} changes[] = {
		{"\"stoker_lock\":1", "\"stoker_lock\":2", "stoker_lock: is 2"},
		{"/opt/stoker/env", "/opt/other", "prefix: must be /opt/stoker/env"},
		{"linux/amd64", "sun", "platform"},
		{IMAGE, "sha256:12", "image"},
		{"/usr/bin/python3", "python3", "python: must be an absolute path"},
		{"\"conda\",\"version\"", "\"co nda\",\"version\"", "tool: must be"},
		{"\"stoker_lock\"", "\"activation\":\"x\",\"stoker_lock\"", "activation: must be"},
	};
	static const char text[] = LOCK("", "");
	(void)state;
	for (size_t i = 0; i < array_size(changes); i++) {
		cleanup_arena struct arena a = {0};
		struct environment_lock lock;
		struct error err = {0};
		const char *at = strstr(text, changes[i].from);
		const char *changed = arena_printf(&a, "%.*s%s%s", (int)(at - text), text,
			changes[i].to, at + strlen(changes[i].from));
		if (parse(&a, changed, &lock, &err) == 0)
			fail_msg("accepted %s", changed);
		if (!strstr(err.text, changes[i].expected))
			fail_msg("%s\nlacks: %s", err.text, changes[i].expected);
	}
}

// ---- what tools wrote

struct prefix {
	char path[64];
	int fd;
};

static struct prefix prefix_make(void)
{
	struct prefix p = {.path = "/tmp/stoker-lock-XXXXXX"};
	assert_non_null(mkdtemp(p.path));
	p.fd = open(p.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(p.fd >= 0);
	return p;
}

static void prefix_remove(struct prefix *p)
{
	struct error err;
	close(p->fd);
	assert_int_equal(directory_remove(AT_FDCWD, p->path, &err), 0);
}

static void put(struct prefix *p, const char *path, const char *text)
{
	struct error err;
	cleanup_free char *folder = xstrndup(path, (size_t)(path_base(path) - path));
	assert_int_equal(directory_make(p->fd, folder, 0755, &err), 0);
	int fd = openat(p->fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static const char *original(void *data, struct arena *a, const char *url)
{
	const char *before = data;
	return starts_with(url, before) ? arena_printf(a, "https://%s", url + strlen(before)) : url;
}

static void reads_condas_records(void **state)
{
	struct prefix p = prefix_make();
	cleanup_arena struct arena a = {0};
	struct environment_lock lock = {0};
	struct error err = {0};
	(void)state;
	assert_int_equal(environment_lock_read_conda(&lock, &a, p.fd, NULL, NULL, &err), 0);
	assert_int_equal(lock.conda_count, 0);
	put(&p, "conda-meta/history", "==> x <==");
	put(&p, "conda-meta/b-2-0.json",
		"{\"name\":\"b\",\"version\":\"2\",\"build\":\"0\",\"size\":7,\"md5\":\"" MD5
		"\",\"sha256\":\"" HEX "\",\"timestamp\":1.5,"
		"\"url\":\"http://127.0.0.1:1041/https/h/t/tk-1/c/b.conda\",\"files\":[]}");
	put(&p, "conda-meta/a-1-0.json",
		"{\"name\":\"a\",\"version\":\"1\",\"build_string\":\"0\",\"url\":\"file:///c/"
		"a\"}");
	if (environment_lock_read_conda(
		    &lock, &a, p.fd, original, (void *)"http://127.0.0.1:1041/https/", &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(lock.conda_count, 2);
	assert_string_equal(lock.conda[0].name, "a");
	assert_null(lock.conda[0].url);
	assert_string_equal(lock.conda[1].url, "https://h/c/b.conda");
	assert_string_equal(lock.conda[1].sha256, HEX);
	assert_int_equal(lock.conda[1].size, 7);
	assert_string_equal(environment_lock_gap(&lock), "a");
	prefix_remove(&p);
}

static void refuses_hostile_records(void **state)
{
	static const struct {
		const char *text, *expected; // text NULL: a link, "": a pipe
	} cases[] = {
		{"{\"name\":\"../x\",\"version\":\"1\",\"build\":\"0\"}",
			"conda-meta: x.json: name"},
		{"{\"name\":\"a\",\"version\":\"1\\n--pre\",\"build\":\"0\"}", "x.json: version"},
		{"{\"name\":\"a\",\"version\":\"1\"}", "x.json: build"},
		{"{\"name\":\"a\"", "x.json"},
		{"[]", "x.json: name"},
		{NULL, "x.json"},
		{"", "no regular file"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct prefix p = prefix_make();
		cleanup_arena struct arena a = {0};
		struct environment_lock lock = {0};
		struct error err = {0};
		put(&p, "conda-meta/history", "");
		if (!cases[i].text)
			assert_int_equal(symlinkat("/etc/hostname", p.fd, "conda-meta/x.json"), 0);
		else if (!*cases[i].text)
			assert_int_equal(mkfifoat(p.fd, "conda-meta/x.json", 0600), 0);
		else
			put(&p, "conda-meta/x.json", cases[i].text);
		assert_int_equal(
			environment_lock_read_conda(&lock, &a, p.fd, NULL, NULL, &err), -1);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s\nlacks: %s", err.text, cases[i].expected);
		assert_int_equal(lock.conda_count, 0);
		prefix_remove(&p);
	}
}

static void reads_pips_report(void **state)
{
	static const char report[] =
		"{\"version\":\"1\",\"pip_version\":\"23\",\"install\":["
		"{\"download_info\":{\"url\":\"https://h/B_c-2.whl#sha256=1\",\"archive_info\":"
		"{\"hash\":\"sha256=" HEX "\",\"hashes\":{\"sha256\":\"" HEX "\"}}},"
		"\"requested\":true,\"metadata\":{\"name\":\"B_c\",\"version\":\"2\"}},"
		"{\"download_info\":{\"url\":\"https://h/a.whl\",\"archive_info\":"
		"{\"hash\":\"sha256=" HEX "\"}},\"metadata\":{\"name\":\"a\",\"version\":\"1\"}},"
		"{\"download_info\":{\"url\":\"file:///d\",\"dir_info\":{}},"
		"\"metadata\":{\"name\":\"d\",\"version\":\"1+x\"}}]}";
	cleanup_arena struct arena a = {0};
	struct environment_lock lock = {0};
	struct error err = {0};
	(void)state;
	if (environment_lock_read_pip(&lock, &a, report, strlen(report), NULL, NULL, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(lock.pip_count, 3);
	assert_string_equal(lock.pip[0].sha256, HEX);
	assert_string_equal(lock.pip[1].name, "b-c");
	assert_string_equal(lock.pip[1].url, "https://h/B_c-2.whl");
	assert_null(lock.pip[2].url);
	assert_string_equal(environment_lock_gap(&lock), "d");
}

static void refuses_hostile_reports(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{"", "pip's report"},
		{"[]", "expected version \"1\""},
		{"{\"version\":\"2\",\"install\":[]}", "expected version \"1\""},
		{"{\"version\":\"1\",\"install\":{}}", "expected version \"1\""},
		{"{\"version\":\"1\",\"install\":[1]}", "package \"\": name: must be"},
		{"{\"version\":\"1\",\"install\":[{\"metadata\":{\"name\":\"a b\"}}]}",
			"package \"a b\": name: must be"},
		{"{\"version\":\"1\",\"install\":[{\"metadata\":{\"name\":\"a\",\"version\":"
		 "\"1\\n-r x\"}}]}",
			"package \"a\": version: must be"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct environment_lock lock = {0};
		struct error err = {0};
		assert_int_equal(environment_lock_read_pip(&lock, &a, cases[i].text,
					 strlen(cases[i].text), NULL, NULL, &err),
			-1);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s\nlacks: %s", err.text, cases[i].expected);
	}
}

static void reads_what_freeze_says(void **state)
{
	static const char text[] = "# comment == 1\n-e git==1\nB_c==2.0\nd @ file:///x==1\n"
				   "a==1\nnumpy==1.26\n==\nlast==3";
	struct lock_package conda = {.name = "numpy", .version = "1.26", .build = "0"};
	cleanup_arena struct arena a = {0};
	struct environment_lock lock = {.conda = &conda, .conda_count = 1};
	struct error err = {0};
	(void)state;
	assert_int_equal(environment_lock_read_freeze(&lock, &a, text, strlen(text), &err), 0);
	assert_int_equal(lock.pip_count, 3);
	assert_string_equal(lock.pip[0].name, "a");
	assert_string_equal(lock.pip[1].name, "b-c");
	assert_string_equal(lock.pip[2].version, "3");
	assert_string_equal(environment_lock_gap(&lock), "numpy");
}

#define SITE "lib/python3.11/site-packages/"

static void makes_constraints(void **state)
{
	struct prefix p = prefix_make();
	cleanup_buffer struct buffer out = {0};
	struct error err = {0};
	(void)state;
	put(&p, "conda-meta/a.json",
		"{\"files\":[\"" SITE "Lab_Math-1.2.dist-info/METADATA\",\"" SITE
		"lab_math/x.py\",\"" SITE "gone-2.0-py3.11.egg-info/PKG-INFO\",\"" SITE
		"old-3.egg-info\",\"" SITE "link-4.0.dist-info/METADATA\",\"" SITE
		"evil-5.dist-info/METADATA\",\"" SITE "dates-2004d.dist-info/METADATA\",\"share/"
		"no-6.dist-info/METADATA\",\"../up/site-packages/up-7.dist-info/METADATA\"]}");
	put(&p, "conda-meta/b.json", "{\"files\":3}");
	put(&p, SITE "Lab_Math-1.2.dist-info/METADATA",
		"Metadata-Version: 2.1\r\nName: Lab.Math\r\nVersion: 1.2.post1\r\n\r\nVersion: "
		"9\r\n");
	put(&p, SITE "evil-5.dist-info/METADATA", "Name: x\nVersion: 1;--pre\n");
	put(&p, SITE "link-4.0.dist-info/RECORD", "");
	assert_int_equal(symlinkat("/etc/hostname", p.fd, SITE "link-4.0.dist-info/METADATA"), 0);
	if (environment_constraints(p.fd, &out, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(out.data, "dates==2004d\ngone==2.0\nlab-math==1.2.post1\nlink==4.0\n"
				      "old==3\nup==7\n");
	prefix_remove(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_written_as_it_was_read),
		cmocka_unit_test(has_one_key),
		cmocka_unit_test(refuses_with_the_place),
		cmocka_unit_test(refuses_other_documents),
		cmocka_unit_test(reads_condas_records),
		cmocka_unit_test(refuses_hostile_records),
		cmocka_unit_test(reads_pips_report),
		cmocka_unit_test(refuses_hostile_reports),
		cmocka_unit_test(reads_what_freeze_says),
		cmocka_unit_test(makes_constraints),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
