// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/classify.h"
#include "agent/environment/pip.h"
#include "agent/environment/uv.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char *joined(struct arena *a, const struct json_strings *words)
{
	const char *text = "";
	for (size_t i = 0; i < words->count; i++)
		text = arena_printf(a, "%s%s%s", text, i ? " " : "", words->items[i]);
	return text;
}

static void test_versions(void **state)
{
	static const struct {
		const char *version;
		unsigned major, minor;
		bool expected;
	} cases[] = {
		{"23.0.1", 22, 2, true},
		{"22.2", 22, 2, true},
		{"22.1.2", 22, 2, false},
		{"9.0.3", 22, 2, false},
		{"23.0.1-py3-none-any.whl", 22, 2, true},
		{"100", 22, 2, true},
		{"", 22, 2, false},
		{NULL, 0, 0, false},
		{"dev", 1, 0, false},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++)
		assert_int_equal(version_at_least(cases[i].version, cases[i].major, cases[i].minor),
			cases[i].expected);
}

static void test_install(void **state)
{
	static const char *all[] = {":all:", NULL};
	cleanup_arena struct arena a = {0};
	struct pip_options o = {
		.pip = "/x/__pip-runner__.py",
		.version = "23.0.1",
		.index_url = "http://127.0.0.1:1041/https/a/simple",
		.only_binary = {all, 1},
		.pre = true,
		.no_compile = true,
		.as_of = "2026-01-01T00:00:00Z",
	};
	struct json_strings argv = pip_install_command(&a, &o);
	(void)state;
	assert_string_equal(joined(&a, &argv),
		"/opt/stoker/env/bin/python /x/__pip-runner__.py install --no-compile --index-url "
		"http://127.0.0.1:1041/https/a/simple --only-binary :all: --pre --report "
		"/opt/stoker/tmp/report.json --upgrade-strategy only-if-needed -r "
		"/opt/stoker/tmp/requirements.txt");
	o = (struct pip_options){.version = "20.0", .constraints = true};
	argv = pip_install_command(&a, &o);
	assert_string_equal(joined(&a, &argv),
		"/opt/stoker/env/bin/python -m pip install -c /opt/stoker/tmp/constraints.txt "
		"--upgrade-strategy only-if-needed -r /opt/stoker/tmp/requirements.txt");
	o = (struct pip_options){.version = "26.1", .as_of = "2026-01-01T00:00:00Z"};
	argv = pip_install_command(&a, &o);
	assert_non_null(strstr(joined(&a, &argv), "--uploaded-prior-to 2026-01-01T00:00:00Z"));
}

static void test_locked(void **state)
{
	static struct lock_package packages[] = {
		{.name = "a",
			.version = "1",
			.url = "https://h/f/a-1-py3-none-any.whl",
			.sha256 = "11"},
		{.name = "b",
			.version = "2",
			.url = "https://h/f/b-2-py3-none-any.whl",
			.sha256 = "22"},
	};
	const struct environment_lock lock = {.pip = packages, .pip_count = 2};
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer requirements = {0}, links = {0};
	const struct pip_options o = {.index_url = "http://i"};
	struct json_strings argv = pip_locked_command(&a, &o, &lock);
	(void)state;
	assert_string_equal(joined(&a, &argv),
		"/opt/stoker/env/bin/python -m pip install --no-index --no-deps --require-hashes "
		"--find-links /opt/stoker/tmp/links.html -r /opt/stoker/tmp/requirements.txt");
	packages[1].url = "https://h/f/b-2.tar.gz"; // its build needs the index
	argv = pip_locked_command(&a, &o, &lock);
	assert_non_null(strstr(joined(&a, &argv), "--index-url http://i"));
	assert_null(strstr(joined(&a, &argv), "--no-index"));
	assert_null(strstr(joined(&a, &argv), "--no-compile"));
	argv = pip_locked_command(&a, &(struct pip_options){.no_compile = true}, &lock);
	assert_non_null(strstr(joined(&a, &argv), "install --no-compile --no-deps"));
	pip_locked_write(&a, &lock, &requirements, &links);
	assert_string_equal(requirements.data, "a==1 --hash=sha256:11\nb==2 --hash=sha256:22\n");
	assert_non_null(strstr(links.data,
		"<a href=\"http://127.0.0.1:1041/https/h/f/b-2.tar.gz#sha256=22\">b-2.tar.gz</a>"));
}

static void test_requirements(void **state)
{
	static const char *lines[] = {"a ==1; python_version < \"3.12\"",
		"b @ https://h/b.whl ; python_version > \"3\"", NULL};
	const struct json_strings all = {lines, 2};
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer out = {0};
	(void)state;
	pip_requirements_write(&a, &all, &out);
	assert_string_equal(out.data,
		"a ==1; python_version < \"3.12\"\n"
		"b @ http://127.0.0.1:1041/https/h/b.whl ; python_version > \"3\"\n");
}

static void test_classify(void **state)
{
	static const struct {
		const char *output;
		enum environment_failure failure;
		const char *text, *evidence;
	} cases[] = {
		{"ERROR: Could not find a version that satisfies the requirement x (from versions: "
		 "none)\nERROR: No matching distribution found for x\n",
			ENVIRONMENT_NOT_FOUND, "No matching distribution found for x",
			"(from versions: none)"},
		{"ERROR: Ignored the following versions that require a different python version: "
		 "1.0 Requires-Python >=3.99\nERROR: No matching distribution found for x\n",
			ENVIRONMENT_UNSATISFIABLE, "No matching distribution found for x (",
			"Requires-Python"},
		{"ERROR: Cannot install a and b because these package versions have conflicting "
		 "dependencies.\n\nThe conflict is caused by:\n    a 1 depends on c>2\n",
			ENVIRONMENT_UNSATISFIABLE, "Cannot install a and b", "a 1 depends on c>2"},
		{"ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n",
			ENVIRONMENT_INTEGRITY, "THESE PACKAGES", ""},
		{"ERROR: Could not install packages due to an OSError: [Errno 28] No space left on "
		 "device\n",
			ENVIRONMENT_NO_SPACE, "Could not install packages", ""},
		{"  error: subprocess-exited-with-error\n  [2 lines of output]\n  cc1: first\n  "
		 "cc1: last words\n  [end of output]\n  note: This error originates\n  ERROR: "
		 "Failed building wheel for z\n",
			ENVIRONMENT_BUILD, "Failed building wheel for z", "cc1: last words"},
		{"Traceback\nValueError: what\n", ENVIRONMENT_FAILED, "ValueError: what", "Trace"},
		{"", ENVIRONMENT_FAILED, "pip failed", ""},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct classified c;
		classify_pip(&a, cases[i].output, strlen(cases[i].output), &c);
		assert_int_equal(c.failure, cases[i].failure);
		assert_non_null(strstr(c.text, cases[i].text));
		assert_non_null(strstr(c.evidence.data ? c.evidence.data : "", cases[i].evidence));
		buffer_release(&c.evidence);
	}
}

static void test_build_evidence_ends(void **state)
{
	// What follows the compiler's words is pip's own, and is left out.
	static const char output[] = "[2 lines of output]\na\nb\n[end of output]\nnote: pip's\n"
				     "ERROR: Failed building wheel for z\n";
	cleanup_arena struct arena a = {0};
	struct classified c;
	(void)state;
	classify_pip(&a, output, sizeof(output) - 1, &c);
	assert_string_equal(c.evidence.data, "\na\nb\n");
	buffer_release(&c.evidence);
}

static void test_uv_lock(void **state)
{
	static const char text[] =
		"lock-version = \"1.0\"\n\n[[packages]]\nname = \"a\"\nversion = \"1.0\"\n"
		"sdist = { url = \"https://h/a-1.0.tar.gz\", hashes = { sha256 = \"00\" } }\n"
		"wheels = [\n"
		"    { url = \"https://h/a-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_"
		"64.whl\", size = 1, hashes = { sha256 = \"11\" } },\n"
		"    { url = \"https://h/a-1.0-cp311-cp311-win_amd64.whl\", hashes = { sha256 = "
		"\"22\" } },\n]\n\n[[packages]]\nname = \"b\"\nversion = \"2\"\nwheels = [{ url = "
		"\"https://h/b-2-py2.py3-none-any.whl\", hashes = { sha256 = \"33\" } }]\n";
	cleanup_arena struct arena a = {0};
	struct uv_package *packages;
	size_t count;
	struct error err;
	(void)state;
	assert_int_equal(uv_lock_parse(&a, text, sizeof(text) - 1, &packages, &count, &err), 0);
	assert_int_equal(count, 2);
	assert_string_equal(packages[0].sdist.sha256, "00");
	assert_int_equal(packages[0].wheel_count, 2);
	const struct uv_file *file =
		uv_wheel_with_tag(&packages[0], "cp311-cp311-manylinux_2_17_x86_64");
	assert_non_null(file);
	assert_string_equal(file->sha256, "11");
	assert_null(uv_wheel_with_tag(&packages[0], "cp312-cp312-manylinux_2_17_x86_64"));
	assert_null(uv_wheel_with_tag(&packages[0], "x"));
	file = uv_wheel_with_tag(&packages[1], "py3-none-any");
	assert_non_null(file);
	assert_string_equal(file->sha256, "33");
	static const char nameless[] = "[[packages]]\nversion = \"1\"\n";
	assert_int_equal(
		uv_lock_parse(&a, nameless, sizeof(nameless) - 1, &packages, &count, &err), -1);
	assert_string_equal(err.text, "pylock.toml: package 1 has no name or no version");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_install),
		cmocka_unit_test(test_locked),
		cmocka_unit_test(test_requirements),
		cmocka_unit_test(test_classify),
		cmocka_unit_test(test_build_evidence_ends),
		cmocka_unit_test(test_uv_lock),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
