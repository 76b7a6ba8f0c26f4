// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/request.h"

#include "base/sha256.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define IMAGE "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define OTHER "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

#define LIST(...)                                                                      \
	{                                                                              \
		.items = (const char *[]){__VA_ARGS__, NULL},                          \
		.count = sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *), \
	}

static const struct environment_tool conda = {.tool = JOB_TOOL_CONDA,
	.path = "/opt/conda/bin/conda",
	.version = "23.3.1",
	.python = "/usr/bin/python3",
	.python_version = "3.11.2",
	.glibc = "2.36"};
static const struct environment_tool venv = {.tool = JOB_TOOL_VENV,
	.path = "/usr/bin/python3",
	.version = "3.11.2",
	.python = "/usr/bin/python3",
	.python_version = "3.11.2",
	.pip_version = "23.0.1",
	.glibc = "2.36"};

// A zeroed case is "conda, channel c, numpy".
struct request {
	struct job_environment job;
	const struct environment_tool *tool;
	const char *image, *architecture;
	struct environment_policy node;
};

static int make(
	struct arena *a, const struct request *q, struct environment_request *r, struct error *err)
{
	struct oci_platform platform = {.os = "linux"};
	snprintf(platform.architecture, sizeof(platform.architecture), "%s",
		q->architecture ? q->architecture : "amd64");
	struct job_environment *job = arena_new(a, struct job_environment);
	*job = q->job;
	const struct environment_tool *tool = q->tool ? q->tool : &conda;
	static const char *numpy[] = {"numpy", NULL}, *c[] = {"c", NULL};
	if (tool == &conda && !job->conda.count)
		job->conda = (struct json_strings){.items = numpy, .count = 1};
	if (!job->channels.count && !q->node.channels.count)
		job->channels = (struct json_strings){.items = c, .count = 1};
	return environment_request_make(
		a, job, tool, q->image ? q->image : IMAGE, &platform, &q->node, r, err);
}

static void compare_keys(const struct request *x, const struct request *y, bool same, size_t line)
{
	cleanup_arena struct arena a = {0};
	struct environment_request r, s;
	struct error err = {0};
	if (make(&a, x, &r, &err) < 0 || make(&a, y, &s, &err) < 0)
		fail_msg("pair %zu: %s", line, err.text);
	if (streq(r.key, s.key) != same)
		fail_msg("pair %zu: %s\n%s", line, r.document, s.document);
	assert_true(streq(r.document, s.document) == same);
}

static void means_the_same(void **state)
{
	const struct {
		struct request a, b;
	} pairs[] = {
		{{.job.conda = LIST("numpy", "scipy>=1,<2")},
			{.job.conda = LIST("SciPy <2, >=1", " numpy", "numpy")}},
		{{.job.conda = LIST("numpy 1.26.*")}, {.job.conda = LIST("numpy=1.26")}},
		{{.job.channels = LIST("conda-forge", "a")},
			{.job.channels = LIST("conda-forge", "a", "conda-forge", "nodefaults")}},
		{{.job.channels = LIST("https://host/c")},
			{.job.channels = LIST("HTTPS://u:p@Host/t/tk-1/c/")}},
		{{.job.channels = LIST("a")}, {.node.channels = LIST("a")}},
		{{.image = NULL}, {.job.channel_priority = "strict"}},
		{{.image = NULL},
			{.job.max_age = 5, .job.reuse = JOB_REUSE_REFRESH, .job.max_seconds = 9}},
		{{.image = NULL},
			{.job.index_url = "https://h/simple"}}, // there are no pip packages
		{{.job.conda = LIST("python"), .job.python = "3.11"},
			{.job.conda = LIST("python=3.11")}},
		{{.job.pip = LIST("x")}, {.job.pip = LIST("# of ours", "", "X", "x")}},
		{{.job.pip = LIST("x"), .job.conda = LIST("a")},
			{.job.pip = LIST("x"), .job.conda = LIST("pip", "python", "a")}},
		{{.job.pip = LIST("x"), .job.index_url = "https://h/s"},
			{.job.pip = LIST("x"), .job.index_url = "https://u:p@h/s/"}},
		{{.job.pip = LIST("x"), .job.only_binary = LIST("a-b", "c")},
			{.job.pip = LIST("x"), .job.only_binary = LIST("C", "A_B")}},
		{{.job.as_of = "2026-01-01T00:00:00Z"}, {.job.as_of = "2026-01-01T01:00:00+01:00"}},
		{{.job.pip = LIST("x==1 \\", "--hash=" IMAGE)},
			{.job.pip = LIST("x==1 --hash=" IMAGE)}},
	};
	(void)state;
	for (size_t i = 0; i < array_size(pairs); i++)
		compare_keys(&pairs[i].a, &pairs[i].b, true, i);
}

static void means_something_else(void **state)
{
	static const struct environment_tool other_version = {
		.tool = JOB_TOOL_CONDA, .path = "/opt/conda/bin/conda", .version = "24.1.0"};
	const struct {
		struct request a, b;
	} pairs[] = {
		{{.job.channels = LIST("a", "b")}, {.job.channels = LIST("b", "a")}},
		{{.job.pip = LIST("a", "b")}, {.job.pip = LIST("b", "a")}},
		{{.job.conda = LIST("numpy=1.26")}, {.job.conda = LIST("numpy==1.26")}},
		{{.image = NULL}, {.image = OTHER}},
		{{.image = NULL}, {.architecture = "arm64"}},
		{{.image = NULL}, {.tool = &other_version, .job.conda = LIST("numpy")}},
		{{.image = NULL}, {.job.channel_priority = "flexible"}},
		{{.image = NULL}, {.job.cuda = "12.4"}},
		{{.image = NULL}, {.job.as_of = "2026-01-01"}},
		{{.image = NULL}, {.job.inherit_image_packages = true}},
		{{.image = NULL}, {.job.activation = JOB_ACTIVATION_NONE}},
		{{.image = NULL}, {.job.pip = LIST("x")}},
		{{.job.pip = LIST("x")}, {.job.pip = LIST("x"), .job.pre = true}},
		{{.job.pip = LIST("x")}, {.job.pip = LIST("x"), .job.index_url = "https://h"}},
		{{.job.pip = LIST("x")}, {.job.pip = LIST("x"), .node.index_url = "https://h"}},
		{{.job.pip = LIST("x"), .job.extra_index_urls = LIST("https://a", "https://b")},
			{.job.pip = LIST("x"),
				.job.extra_index_urls = LIST("https://b", "https://a")}},
	};
	(void)state;
	for (size_t i = 0; i < array_size(pairs); i++)
		compare_keys(&pairs[i].a, &pairs[i].b, false, i);
}

static void says_it_all_in_one_document(void **state)
{
	const struct request q = {.job.conda = LIST("NumPy >=1"),
		.job.pip = LIST("X_y"),
		.job.cuda = "12.4",
		.job.index_url = "https://host/simple/"};
	static const char expected[] =
		"{\"activation\":\"snapshot\",\"as_of\":null,"
		"\"conda\":{\"channel_priority\":\"strict\",\"channels\":[\"c\"],"
		"\"overrides\":{\"CONDA_OVERRIDE_ARCHSPEC\":\"x86_64\","
		"\"CONDA_OVERRIDE_CUDA\":\"12.4\",\"CONDA_OVERRIDE_GLIBC\":\"2.36\","
		"\"CONDA_OVERRIDE_LINUX\":\"5.15\"},\"specs\":[\"numpy>=1\",\"pip\",\"python\"],"
		"\"subdir\":\"linux-64\"},\"image\":\"" IMAGE "\","
		"\"inherit_image_packages\":false,\"layout\":1,"
		"\"pip\":{\"extra_index_urls\":[],\"index_url\":\"https://host/simple\","
		"\"only_binary\":[],\"pre\":false,\"requirements\":[\"x-y\"]},"
		"\"platform\":\"linux/amd64\",\"prefix\":\"/opt/stoker/env\",\"schema\":1,"
		"\"tool\":{\"name\":\"conda\",\"path\":\"/opt/conda/bin/conda\",\"pip\":null,"
		"\"python\":\"/usr/bin/python3\",\"python_version\":\"3.11.2\",\"sha256\":null,"
		"\"version\":\"23.3.1\"}}";
	cleanup_arena struct arena a = {0};
	struct environment_request r;
	struct error err = {0};
	(void)state;
	if (make(&a, &q, &r, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(r.document, expected);
	uint8_t digest[SHA256_SIZE];
	char hex[SHA256_HEX_SIZE];
	const char *hashed = arena_printf(&a, "stoker/env-request/v1\n%s", expected);
	sha256_of(hashed, strlen(hashed), digest);
	sha256_hex(digest, hex);
	assert_string_equal(r.key, hex);
}

static void keeps_the_pip_phase_apart(void **state)
{
	const struct request q = {.tool = &venv,
		.job.pip = LIST("x"),
		.job.python = "3.11",
		.node.extra_index_urls = LIST("https://extra")};
	cleanup_arena struct arena a = {0};
	struct environment_request r;
	struct error err = {0};
	(void)state;
	if (make(&a, &q, &r, &err) < 0)
		fail_msg("%s", err.text);
	assert_false(r.has_conda);
	assert_int_equal(r.conda.count, 0);
	assert_int_equal(r.extra_index_urls.count, 1);
	assert_non_null(strstr(r.document, "\"conda\":null"));
}

static void refuses_with_a_remedy(void **state)
{
	const struct {
		struct request q;
		const char *expected;
	} cases[] = {
		{{.job.conda = LIST("numpy", "a b c d")}, "conda package \"a b c d\""},
		{{.job.pip = LIST("ok", "-e .")}, "pip requirement \"-e .\""},
		{{.job.channels = LIST("nodefaults")}, "no channel to take them from"},
		{{.job.channels = LIST("/srv/c")}, "channel \"/srv/c\": expected a name"},
		{{.job.channels = LIST("file:///srv/c")}, "cannot be reached from a build"},
		{{.job.channels = LIST("a b")}, "channel \"a b\": it holds a space"},
		{{.job.channels = LIST("")}, "channel: an entry is empty"},
		{{.job.pip = LIST("x"), .job.index_url = "pypi"}, "index_url \"pypi\""},
		{{.job.pip = LIST("x"), .job.extra_index_urls = LIST("ftp://x")},
			"extra_index_urls \"ftp://x\""},
		{{.job.pip = LIST("x"), .job.only_binary = LIST("a/b")}, "only_binary \"a/b\""},
		{{.job.cuda = "new"}, "environment.cuda \"new\""},
		{{.job.as_of = "now"}, "environment.as_of \"now\""},
		{{.job.python = ">=3"}, "environment.python \">=3\""},
		{{.job.python = "3.10", .job.conda = LIST("python=3.11")},
			"conda package \"python=3.11\": environment.python says 3.10"},
		{{.tool = &venv, .job.conda = LIST("x")}, "environment.tool is venv"},
		{{.tool = &venv, .job.python = "3.1"}, "the image's Python is 3.11.2"},
		{{.architecture = "riscv64"}, "conda has none for linux/riscv64"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct environment_request r;
		struct error err = {0};
		if (make(&a, &cases[i].q, &r, &err) == 0)
			fail_msg("accepted: %s", cases[i].expected);
		assert_int_equal(err.kind, ERROR_INVALID);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s\nlacks: %s", err.text, cases[i].expected);
	}
}

static void keeps_secrets_out(void **state)
{
	const struct request q = {
		.job.channels = LIST("https://ann:pass1@h/t/tk-pass2/c"),
		.job.pip = LIST("x"),
		.job.index_url = "https://pass3@h/simple",
	};
	cleanup_arena struct arena a = {0};
	struct environment_request r;
	struct error err = {0};
	(void)state;
	if (make(&a, &q, &r, &err) < 0)
		fail_msg("%s", err.text);
	assert_null(strstr(r.document, "pass"));
	assert_string_equal(r.channels.items[0], "https://h/c");
	assert_string_equal(r.index_url, "https://h/simple");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(means_the_same),
		cmocka_unit_test(means_something_else),
		cmocka_unit_test(says_it_all_in_one_document),
		cmocka_unit_test(keeps_the_pip_phase_apart),
		cmocka_unit_test(refuses_with_a_remedy),
		cmocka_unit_test(keeps_secrets_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
