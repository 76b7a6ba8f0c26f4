// SPDX-License-Identifier: Apache-2.0
// What the controller reads of a job.
#include "base/text.h"
#include "controller/state/job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int read_job(
	struct arena *a, const char *text, const char *snapshot, struct job *job, struct error *err)
{
	const struct json *tree = json_parse(a, text, strlen(text), "job", NULL, err);
	assert_non_null(tree);
	return job_read(a, tree, snapshot, job, err);
}

static void test_needs(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	struct error err;
	struct job job;
	assert_int_equal(read_job(&a, "{\"entry_script\":\"x.py\"}", NULL, &job, &err), 0);
	assert_string_equal(job.experiment, "run");
	assert_null(job.image);
	assert_true(job.cpus == 1 && job.memory == 0 && job.gpus == 0);
	assert_int_equal(read_job(&a,
				 "{\"experiment\":\"a.b\",\"custom_docker_image\":\"python\","
				 "\"resources\":{\"cpus\":0.5,\"memory\":\"2g\",\"gpus\":1,"
				 "\"disk\":\"1g\"}}",
				 NULL, &job, &err),
		0);
	assert_string_equal(job.experiment, "a.b");
	assert_string_equal(job.image, "python");
	assert_true(job.cpus == 0.5 && job.memory == 2147483648U && job.gpus == 1);
}

static void test_refused(void **state)
{
	(void)state;
	static const struct {
		const char *text, *error;
	} cases[] = {
		{"[]", "must be an object"},
		{"{\"experiment\":7}", "experiment: must be a string"},
		{"{\"experiment\":\"../x\"}", "experiment: must be letters"},
		{"{\"experiment\":\"\"}", "experiment: must be letters"},
		{"{\"custom_docker_image\":\"\"}", "custom_docker_image: must have 1"},
		{"{\"resources\":[]}", "resources: must be an object"},
		{"{\"resources\":{\"cpus\":0}}", "resources.cpus: must be above 0"},
		{"{\"resources\":{\"cpus\":1e300}}", "resources.cpus: must be above 0"},
		{"{\"resources\":{\"memory\":\"much\"}}", "resources.memory: must be a size"},
		{"{\"resources\":{\"memory\":9000000000000000000}}",
			"resources.memory: is too large"},
		{"{\"resources\":{\"gpus\":-1}}", "resources.gpus: must be a non-negative"},
		{"{\"resources\":{\"gpus\":10001}}", "resources.gpus: must be at most"},
	};
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct error err = {0};
		struct job job;
		assert_int_equal(read_job(&a, cases[i].text, NULL, &job, &err), -1);
		assert_int_equal(err.kind, ERROR_INVALID);
		if (!strstr(err.text, cases[i].error))
			fail_msg("%s: %s", cases[i].text, err.text);
	}
}

// {a, b}: same environment?
static void test_hint(void **state)
{
	(void)state;
	static const struct {
		const char *a, *snapshot_a, *b, *snapshot_b;
		bool same;
	} cases[] = {
		{"{\"environment\":{\"x\":1,\"y\":2}}", "s", "{\"environment\":{\"y\":2,\"x\":1}}",
			"t", true},
		{"{\"pip_packages\":[\"a\",\"b\"]}", "s", "{\"pip_packages\":[\"b\",\"a\"]}", "s",
			false},
		{"{\"pip_packages\":[\"a\"]}", "s", "{\"conda_packages\":[\"a\"]}", "s", false},
		{"{\"pip_packages\":[\"a\"],\"custom_docker_image\":\"i\"}", "s",
			"{\"pip_packages\":[\"a\"],\"custom_docker_image\":\"j\"}", "s", false},
		{"{\"pip_packages\":[\"a\"],\"entry_script\":\"1\"}", "s",
			"{\"pip_packages\":[\"a\"],\"entry_script\":\"2\"}", "t", true},
		{"{\"conda_dependencies_file\":\"e\"}", "s", "{\"conda_dependencies_file\":\"e\"}",
			"t", false},
		{"{\"pip_packages\":null}", "s", "{}", "s", true},
	};
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		struct error err;
		struct job x, y;
		assert_int_equal(read_job(&a, cases[i].a, cases[i].snapshot_a, &x, &err), 0);
		assert_int_equal(read_job(&a, cases[i].b, cases[i].snapshot_b, &y, &err), 0);
		if (streq(x.hint, y.hint) != cases[i].same)
			fail_msg("%s, %s", cases[i].a, cases[i].b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_needs),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_hint),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
