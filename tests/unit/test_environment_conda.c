// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/classify.h"
#include "agent/environment/conda.h"
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

static const char *value(const struct json_pairs *env, const char *key)
{
	const char *found = NULL;
	for (size_t i = 0; i < env->count; i++)
		if (streq(env->items[i].key, key))
			found = env->items[i].value;
	return found;
}

static const char *channels[] = {"http://c/one", "http://c/two", NULL};
static const char *specs[] = {"numpy=1.26", "python", NULL};

static struct conda_options options(enum job_tool tool, const char *version)
{
	return (struct conda_options){
		.tool = tool,
		.path = "/opt/conda/bin/tool",
		.version = version,
		.channels = {channels, 2},
		.specs = {specs, 2},
		.channel_priority = "strict",
		.subdir = "linux-64",
	};
}

static void test_commands(void **state)
{
	cleanup_arena struct arena a = {0};
	struct conda_options o = options(JOB_TOOL_CONDA, "23.3.1");
	struct json_strings argv = conda_solve_command(&a, &o);
	(void)state;
	assert_string_equal(joined(&a, &argv),
		"/opt/conda/bin/tool create -p /opt/stoker/env -y --json --dry-run "
		"--override-channels -c http://c/one -c http://c/two numpy=1.26 python");
	argv = conda_explicit_command(&a, &o);
	assert_string_equal(joined(&a, &argv),
		"/opt/conda/bin/tool create -p /opt/stoker/env -y --json --file "
		"/opt/stoker/tmp/explicit.txt");
	o = options(JOB_TOOL_MICROMAMBA, "1.5.8");
	argv = conda_create_command(&a, &o);
	assert_string_equal(joined(&a, &argv),
		"/opt/conda/bin/tool create -p /opt/stoker/env -y --json --no-rc "
		"--override-channels --channel-priority strict -c http://c/one -c http://c/two "
		"numpy=1.26 python");
}

static void test_variables(void **state)
{
	cleanup_arena struct arena a = {0};
	static struct json_pair own[] = {{"PATH", "/bin"}};
	static struct json_pair overrides[] = {{"CONDA_OVERRIDE_CUDA", ""}};
	const struct json_pairs base = {own, 1};
	struct conda_options o = options(JOB_TOOL_CONDA, "4.5.0");
	(void)state;
	o.overrides = (struct json_pairs){overrides, 1};
	struct json_pairs env = conda_environment(&a, &base, &o);
	assert_string_equal(value(&env, "PATH"), "/bin");
	assert_string_equal(value(&env, "CONDA_OVERRIDE_CUDA"), "");
	assert_string_equal(value(&env, "CONDA_CHANNEL_PRIORITY"), "true"); // it has no words
	assert_string_equal(value(&env, "CONDA_PLUGINS_AUTO_ACCEPT_TOS"), "no");
	o = options(JOB_TOOL_CONDA, "24.1.0");
	o.accept_terms = true;
	env = conda_environment(&a, &base, &o);
	assert_string_equal(value(&env, "CONDA_CHANNEL_PRIORITY"), "strict");
	assert_string_equal(value(&env, "CONDA_PLUGINS_AUTO_ACCEPT_TOS"), "yes");
}

static void test_document(void **state)
{
	// Text, records that end in NUL, a document over several lines.
	static const char output[] =
		"warning: {not a document}\n"
		"{\"fetch\":\"x | 1 KB\",\"progress\":0.5}\n\0"
		"{\"fetch\":\"x | 1 KB\",\"progress\":1}\n\0{\n \"a\": \"}\\\"{\"\n}\n"
		"and more text {";
	cleanup_arena struct arena a = {0};
	const struct json *v = conda_document(&a, output, sizeof(output) - 1);
	(void)state;
	assert_non_null(v);
	assert_string_equal(json_get_string(v, "a"), "}\"{");
	assert_null(conda_document(&a, "", 0)); // @EXPLICIT says nothing
	assert_null(conda_document(&a, "{\"a\": ", 6));
}

static void test_solution(void **state)
{
	static const char output[] =
		"{\"actions\": {\"FETCH\": [{\"name\": \"x\", \"version\": \"1\", \"url\": "
		"\"http://127.0.0.1:1041/https/h/c/linux-64/x-1-0.conda\", \"md5\": "
		"\"0123456789abcdef0123456789abcdef\", \"size\": 7}], \"LINK\": [{\"name\": "
		"\"x\"}]}}";
	static const char old[] = "{\"actions\": {\"LINK\": [\"c::x-1-0\"]}}";
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer text = {0};
	struct conda_solution s;
	(void)state;
	assert_true(conda_solution_read(&a, conda_document(&a, output, sizeof(output) - 1), &s));
	assert_int_equal(s.count, 1);
	assert_int_equal(s.bytes, 7);
	assert_string_equal(s.packages[0].url, "https://h/c/linux-64/x-1-0.conda");
	conda_explicit_write(&a, s.packages, s.count, &text);
	assert_string_equal(text.data,
		"@EXPLICIT\nhttp://127.0.0.1:1041/https/h/c/linux-64/x-1-0.conda"
		"#0123456789abcdef0123456789abcdef\n");
	assert_false(conda_solution_read(&a, conda_document(&a, old, sizeof(old) - 1), &s));
	assert_false(conda_solution_read(&a, NULL, &s));
}

static void test_alias(void **state)
{
	static const char json[] = "{\n\"channel_alias\": \"https://h/\"\n}\n";
	static const char text[] = "channel_alias: https://h\n";
	cleanup_arena struct arena a = {0};
	(void)state;
	assert_string_equal(conda_alias_parse(&a, json, sizeof(json) - 1), "https://h");
	assert_string_equal(conda_alias_parse(&a, text, sizeof(text) - 1), "https://h");
	assert_null(conda_alias_parse(&a, "nothing", 7));
}

static void test_classify(void **state)
{
	static const struct {
		const char *output;
		enum environment_failure failure;
		const char *text;
	} cases[] = {
		{"{\"exception_name\": \"PackagesNotFoundError\", \"message\": \"not there:\\n - "
		 "x\"}",
			ENVIRONMENT_NOT_FOUND, "not there:"},
		{"{\"exception_name\": \"LibMambaUnsatisfiableError\", \"message\": \"no\"}",
			ENVIRONMENT_UNSATISFIABLE, "no"},
		{"{\"exception_name\": \"CondaMultiError\", \"message\": \"two\", \"errors\": "
		 "[{\"exception_name\": \"ChecksumMismatchError\", \"message\": \"hash of x\"}]}",
			ENVIRONMENT_INTEGRITY, "hash of x"},
		{"{\"exception_name\": \"CondaToSNonInteractiveError\", \"message\": \"terms\"}",
			ENVIRONMENT_TERMS, "terms"},
		{"{\"exception_name\": \"NoSpaceLeftError\", \"message\": \"full\"}",
			ENVIRONMENT_NO_SPACE, "full"},
		{"{\"exception_name\": \"CondaHTTPError\", \"message\": \"HTTP 000\"}",
			ENVIRONMENT_NETWORK, "HTTP 000"},
		{"{\"success\": false, \"solver_problems\": [\"nothing provides requested x\"]}",
			ENVIRONMENT_NOT_FOUND, "nothing provides requested x"},
		{"{\"success\": false, \"solver_problems\": [\"a 1 needs b\"]}",
			ENVIRONMENT_UNSATISFIABLE, "a 1 needs b"},
		{"Traceback\nKeyError: 8192\n", ENVIRONMENT_FAILED, "Traceback"},
		{"", ENVIRONMENT_FAILED, "conda failed"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct classified c;
		classify_conda(&a, cases[i].output, strlen(cases[i].output), &c);
		assert_int_equal(c.failure, cases[i].failure);
		assert_string_equal(c.text, cases[i].text);
		buffer_release(&c.evidence);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_variables),
		cmocka_unit_test(test_document),
		cmocka_unit_test(test_solution),
		cmocka_unit_test(test_alias),
		cmocka_unit_test(test_classify),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
