// SPDX-License-Identifier: Apache-2.0
#include "agent/job/spec.h"

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int parse(struct job_spec *s, const char *text, struct error *err)
{
	return job_spec_parse(s, text, strlen(text), "job.yaml", err);
}

static void decodes_all_keys(void **state)
{
	static const char text[] = "experiment: digits-1\n"
				   "source_directory: src\n"
				   "entry_script: train.py\n"
				   "custom_docker_image: python:3.12\n"
				   "environment_variables:\n"
				   "  A: text\n"
				   "  B: 3.10\n"
				   "  C: true\n"
				   "  D:\n"
				   "inputs:\n"
				   "- {name: data, kind: bind, path: ../data}\n"
				   "- name: _more2\n"
				   "  kind: bind\n"
				   "  path: /abs\n"
				   "  target: /mnt/x\n"
				   "  read_only: false\n"
				   "shm_size: 2g\n";
	cleanup_job_spec struct job_spec s = {0};
	struct error err = {0};

	(void)state;
	if (parse(&s, text, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(s.experiment, "digits-1");
	assert_string_equal(s.source_directory, "src");
	assert_string_equal(s.entry_script, "train.py");
	assert_string_equal(s.image, "python:3.12");
	assert_int_equal(s.variables.count, 4);
	assert_string_equal(s.variables.items[0].key, "A");
	assert_string_equal(s.variables.items[0].value, "text");
	assert_string_equal(s.variables.items[1].value, "3.10");
	assert_string_equal(s.variables.items[2].value, "true");
	assert_string_equal(s.variables.items[3].value, "");
	assert_int_equal(s.input_count, 2);
	assert_string_equal(s.inputs[0].target, "/stoker/inputs/data");
	assert_int_equal(s.inputs[0].mode, DATA_RO_MOUNT);
	assert_string_equal(s.inputs[1].name, "_more2");
	assert_string_equal(s.inputs[1].target, "/mnt/x");
	assert_int_equal(s.inputs[1].mode, DATA_RW_MOUNT);
	assert_int_equal(s.shm_size, 2ULL << 30);
}

static void has_defaults(void **state)
{
	cleanup_job_spec struct job_spec s = {0};
	struct error err = {0};

	(void)state;
	assert_int_equal(parse(&s, "{\"entry_script\": \"a.py\"}", &err), 0);
	assert_string_equal(s.experiment, "run");
	assert_string_equal(s.source_directory, ".");
	assert_null(s.image);
	assert_int_equal(s.arguments.count + s.variables.count + s.input_count + s.shm_size, 0);
}

static void flattens_arguments(void **state)
{
	static const struct {
		const char *params, *expected, *why;
	} cases[] = {
		{"{}", "", "nothing"},
		{"{--a: 1, --b: x}", "[--a][1][--b][x]", "in order"},
		{"{--b: x, --a: 1}", "[--b][x][--a][1]", "in order, the other way"},
		{"{--flag: \"\"}", "[--flag]", "an empty value is a bare flag"},
		{"{--flag: }", "[--flag]", "so is none"},
		{"{\"\": x}", "[x]", "an empty key goes"},
		{"{\"\": \"\"}", "", "both go"},
		{"{--f: 3.10}", "[--f][3.10]", "a number as written"},
		{"{--f: 1e-3}", "[--f][1e-3]", "with an exponent"},
		{"{--f: -0.50}", "[--f][-0.50]", "with a sign"},
		{"{\"\xC3\xA4\": 1.50, --f: 2.50}", "[\xC3\xA4][1.50][--f][2.50]",
			"positions count characters"},
		{"{--i: -12, --t: true, --n: False}", "[--i][-12][--t][true][--n][False]",
			"integers and booleans"},
		{"[a, \"\", 1.0, \"b c\"]", "[a][][1.0][b c]", "a list is taken as it is"},
		{"[]", "", "an empty list"},
		{"null", "", "none given"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_job_spec struct job_spec s = {0};
		cleanup_free char *text =
			xasprintf("entry_script: a.py\nscript_params: %s\n", cases[i].params);
		cleanup_buffer struct buffer got = {0};
		struct error err = {0};
		if (parse(&s, text, &err) < 0)
			fail_msg("%s: %s", cases[i].why, err.text);
		buffer_puts(&got, "");
		for (size_t k = 0; k < s.arguments.count; k++)
			buffer_printf(&got, "[%s]", s.arguments.items[k]);
		if (!streq(got.data, cases[i].expected))
			fail_msg("%s: %s", cases[i].why, got.data);
	}
}

static void refuses(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{"", "job.yaml"},
		{"[]", "must be an object"},
		{"{}", "key \"entry_script\" is missing"},
		{"entry_script: a\nentry_scrpt: b\n", "job.yaml:2:1: unknown key \"entry_scrpt\", "
						      "did you mean \"entry_script\"?"},
		{"entry_script: a\nentry_script: b\n", "job.yaml:2:1:"},
		{"entry_script: a\nnode_count: 2\n",
			"job.yaml:2:13: node_count: more than 1 is not supported by this version"},
		{"entry_script: a\nnode_count: 0\n", "node_count: must be a whole number from 1"},
		{"entry_script: a\nprocess_count_per_node: 2\n", "more than 1 is not supported"},
		{"entry_script: a\ndistributed_training: {}\n",
			"job.yaml:2:23: distributed_training: not supported by this version"},
		{"entry_script: a\nuse_gpu: true\n",
			"job.yaml:2:10: use_gpu: write resources: {gpus: 1} instead"},
		{"entry_script: a\nconda_dependencies_file_path: x\n",
			"write conda_dependencies_file instead"},
		{"entry_script: a\nvm_size: x\n", "vm_size: write resources:"},
		{"entry_script: a\nmax_retries: 101\n", "must be a whole number from 0 to 100"},
		{"entry_script: a\ntags: {a=b: 1}\n", "neither empty nor has a '='"},
		{"entry_script: a\nnetwork: bridge\n", "network: must be private, none or host"},
		{"entry_script: a\nresources: {cpus: 0}\n",
			"resources.cpus: must be a number from 0.01 to 65536"},
		{"entry_script: a\nresources: {cpu: 1}\n",
			"unknown key \"cpu\", did you mean \"cpus\"?"},
		{"entry_script: a\nresources: {pids: 0}\n",
			"resources.pids: must be a whole number from 1 to 4194304"},
		{"entry_script: a\nresources: {gpus: -1}\n", "resources.gpus: must be a whole"},
		{"entry_script: a\nresources: {memory: 1.5g}\n",
			"resources.memory: must be a size"},
		{"entry_script: a\nresources: {devices: [nvidia0]}\n",
			"job.yaml:2:23: resources.devices[0]: must be the name of a CDI device"},
		{"entry_script: a\nmax_run_duration_seconds: 0\n",
			"max_run_duration_seconds: must be a whole number from 1"},
		{"entry_script: /a\n", "job.yaml:1:15: entry_script: must be a path relative"},
		{"entry_script: ''\n", "entry_script: must not be empty"},
		{"entry_script: 3\n", "entry_script: must be a string; put it in quotes"},
		{"entry_script: a\nexperiment: -x\n", "experiment: must be letters, digits"},
		{"entry_script: a\nexperiment: a/b\n", "experiment: must be letters, digits"},
		{"entry_script: a\nscript_params: x\n", "job.yaml:2:16: script_params: must be a "
							"mapping (--name: value) or a list"},
		{"entry_script: a\nscript_params: {--a: [1]}\n",
			"must be a string, a number or a boolean"},
		{"entry_script: a\nscript_params:\n  --x: 1\n  --a: {b: 1}\n",
			"job.yaml:4:9: script_params.--a: unknown key \"b\""},
		{"entry_script: a\nscript_params: [[1]]\n", "script_params[0]: must be a string"},
		{"entry_script: a\nenvironment_variables: [A=1]\n", "must be a mapping"},
		{"entry_script: a\nenvironment_variables: {A=B: 1}\n",
			"neither empty nor has a '='"},
		{"entry_script: a\nenvironment_variables: {'': 1}\n",
			"neither empty nor has a '='"},
		{"entry_script: a\ninputs: {}\n", "inputs: must be an array"},
		{"entry_script: a\ninputs: [{}]\n", "inputs[0]: key \"name\" is missing"},
		{"entry_script: a\ninputs: [{name: 1a, kind: bind, path: x}]\n",
			"inputs[0].name: must be letters, digits and '_'"},
		{"entry_script: a\ninputs: [{name: a, kind: ftp, path: x}]\n",
			"inputs[0].kind: must be bind, http, oci, fuse, nfs, cifs, fsimage or "
			"inline"},
		{"entry_script: a\ninputs: [{name: a, kind: bind, path: x, target: rel}]\n",
			"inputs[0].target: must be an absolute path"},
		{"entry_script: a\ninputs: [{name: a, kind: bind, path: x, mode: y}]\n",
			"inputs[0].mode: must be ro_mount, rw_mount, download or direct"},
		{"entry_script: a\ninputs:\n- {name: a, kind: bind, path: x}\n"
		 "- {name: a, kind: bind, path: y}\n",
			"job.yaml:4:3: inputs: there are two inputs with the name a"},
		{"entry_script: a\nshm_size: 0\n", "shm_size: must be a size over 0"},
		{"entry_script: a\nshm_size: 1.5g\n", "shm_size: must be a size over 0"},
		{"entry_script: a\nshm_size: -1\n", "shm_size: must be a size over 0"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_job_spec struct job_spec s = {0};
		struct error err = {0};
		if (parse(&s, cases[i].text, &err) == 0)
			fail_msg("accepted %s", cases[i].text);
		assert_int_equal(err.kind, ERROR_INVALID);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s: %s", cases[i].text, err.text);
	}
}

static void has_limits(void **state)
{
	cleanup_buffer struct buffer b = {0};
	cleanup_job_spec struct job_spec many = {0}, large = {0};
	struct error err = {0};

	(void)state;
	buffer_puts(&b, "entry_script: a\nscript_params:\n");
	for (int i = 0; i <= JOB_ARGUMENTS_MAX; i++)
		buffer_puts(&b, "- x\n");
	assert_int_equal(parse(&many, b.data, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_non_null(strstr(err.text, "4097 entries, at most 4096"));

	buffer_clear(&b);
	buffer_puts(&b, "entry_script: a\nscript_params: [");
	for (int i = 0; i <= JOB_ARGUMENT_BYTES_MAX; i++)
		buffer_putc(&b, 'x');
	buffer_puts(&b, "]\n");
	assert_int_equal(parse(&large, b.data, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_non_null(strstr(err.text, "longer than 131071 bytes"));
}

static const char http[] = "{name: data, kind: http, url: 'https://h/a.bin', mode: direct}";
static const char bind[] = "{name: data, kind: bind, path: x}";

static void refers_to_inputs(void **state)
{
	static const struct {
		const char *input, *params, *expected;
	} cases[] = {
		{bind, "{--d: \"${{inputs.data}}\"}", "[--d][/stoker/inputs/data]"},
		{bind, "{--d: \"${{ inputs.data }}/a.csv\"}", "[--d][/stoker/inputs/data/a.csv]"},
		{bind, "[\"${{inputs.data}}:${{inputs.data}}\"]",
			"[/stoker/inputs/data:/stoker/inputs/data]"},
		{bind, "{--d: {input: data}}", "[--d][/stoker/inputs/data]"},
		{bind, "[{input: data}]", "[/stoker/inputs/data]"},
		{bind, "[\"DatasetConsumptionConfig:data\"]", "[/stoker/inputs/data]"},
		{bind, "[\"$AZUREML_DATAREFERENCE_data/x\"]", "[/stoker/inputs/data/x]"},
		{bind, "[\"--d=$AZUREML_DATAREFERENCE_data\"]", "[--d=/stoker/inputs/data]"},
		{bind, "[\"$HOME\", \"{data}\", \"$AZUREML_DATAREFERENCE_\"]",
			"[$HOME][{data}][$AZUREML_DATAREFERENCE_]"},
		{"{name: data, kind: bind, path: x, target: /mnt/d}", "[{input: data}]",
			"[/mnt/d]"},
		{http, "[{input: data}]", "[https://h/a.bin]"},
		{http, "[\"${{inputs.data}}?x\"]", "[https://h/a.bin?x]"},
		{"{name: data, kind: oci, reference: 'h/a:1', mode: direct}", "[{input: data}]",
			"[h/a:1]"},
		{bind, "[\"${{inputs.other}}\"]", "script_params[0]: there is no input \"other\""},
		{bind, "[{input: other}]", "job.yaml:3:25: script_params[0]: there is no input"},
		{bind, "[\"DatasetConsumptionConfig:\"]", "there is no input \"\""},
		{bind, "[\"$AZUREML_DATAREFERENCE_dat\"]", "there is no input \"dat\""},
		{bind, "[\"DatasetOutputConfig:x\"]", "let the script write to ./outputs"},
		{bind, "[\"${{outputs.x}}\"]", "only ${{inputs.NAME}} is known"},
		{bind, "[\"${{inputs.data\"]", "only ${{inputs.NAME}} is known"},
		{bind, "[\"${{inputs.data.path}}\"]", "only ${{inputs.NAME}} is known"},
		{bind, "[{inputs: data}]", "did you mean \"input\"?"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_job_spec struct job_spec s = {0};
		cleanup_free char *text =
			xasprintf("entry_script: a.py\ninputs: [%s]\nscript_params: %s\n",
				cases[i].input, cases[i].params);
		cleanup_buffer struct buffer got = {0};
		struct error err = {0};
		if (parse(&s, text, &err) < 0)
			buffer_puts(&got, err.text);
		for (size_t k = 0; k < s.arguments.count; k++)
			buffer_printf(&got, "[%s]", s.arguments.items[k]);
		bool whole = *cases[i].expected == '[';
		if (whole ? !streq(got.data, cases[i].expected)
			  : !strstr(got.data, cases[i].expected))
			fail_msg("%s: %s", cases[i].params, got.data);
	}
}

// A megabyte of references to a long address would become gigabytes.
static void bounds_references(void **state)
{
	cleanup_buffer struct buffer b = {0};
	cleanup_job_spec struct job_spec one = {0}, all = {0};
	struct error err = {0};

	(void)state;
	buffer_puts(&b,
		"entry_script: a\ninputs: [{name: a, kind: http, mode: direct, url: 'http://h/");
	for (int i = 0; i < 8000; i++)
		buffer_putc(&b, 'x');
	buffer_puts(&b, "'}]\nscript_params:\n");
	size_t before = b.size;
	buffer_puts(&b, "- \"");
	for (int i = 0; i < 17; i++)
		buffer_puts(&b, "${{inputs.a}}");
	buffer_puts(&b, "\"\n");
	assert_int_equal(parse(&one, b.data, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_non_null(strstr(err.text, "longer than 131071 bytes with the inputs filled in"));

	b.size = before;
	for (int i = 0; i < 300; i++)
		buffer_puts(&b, "- \"${{inputs.a}}\"\n");
	assert_int_equal(parse(&all, b.data, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_non_null(strstr(err.text, "script_params[261]"));
}

static void decodes_environments(void **state)
{
	static const char text[] = "entry_script: a\n"
				   "conda_packages: [numpy=2, 'python>=3.10']\n"
				   "pip_packages: [torch==2.5, 'x @ https://h/x.whl']\n"
				   "environment:\n"
				   "  channels: [conda-forge, defaults]\n"
				   "  python: '3.10'\n"
				   "  index_url: https://pypi.example/simple\n"
				   "  extra_index_urls: [http://a/b]\n"
				   "  only_binary: [':all:']\n"
				   "  pre: true\n"
				   "  tool: mamba\n"
				   "  max_age: 7d\n"
				   "  activation: none\n"
				   "  max_seconds: 60\n"
				   "max_retries: 3\n"
				   "output_destination: /srv/out\n"
				   "display_name: A\n"
				   "tags: {team: 7, empty: }\n";
	cleanup_job_spec struct job_spec s = {0};
	struct error err = {0};

	(void)state;
	if (parse(&s, text, &err) < 0)
		fail_msg("%s", err.text);
	const struct job_environment *e = &s.environment;
	assert_true(e->given);
	assert_int_equal(e->conda.count, 2);
	assert_string_equal(e->conda.items[1], "python>=3.10");
	assert_string_equal(e->pip.items[1], "x @ https://h/x.whl");
	assert_string_equal(e->channels.items[0], "conda-forge");
	assert_string_equal(e->channel_priority, "strict");
	assert_string_equal(e->python, "3.10");
	assert_string_equal(e->extra_index_urls.items[0], "http://a/b");
	assert_true(e->pre);
	assert_int_equal(e->tool, JOB_TOOL_MAMBA);
	assert_int_equal(e->max_age, 7 * 86400);
	assert_int_equal(e->activation, JOB_ACTIVATION_NONE);
	assert_int_equal(e->max_seconds, 60);
	assert_int_equal(s.max_retries, 3);
	assert_string_equal(s.output_destination, "/srv/out");
	assert_string_equal(s.tags.items[0].value, "7");
	assert_string_equal(s.tags.items[1].value, "");
	assert_int_equal(s.node_count + s.process_count_per_node, 2);
}

static void refuses_environments(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{"user_managed: true\npip_packages: [a]",
			"job.yaml:3:15: pip_packages: user_managed: true means"},
		{"conda_dependencies_file: e.yml\nconda_packages: [a]",
			"conda_packages: excluded by conda_dependencies_file"},
		{"environment: {tool: uv}\nconda_packages: [a]",
			"environment.tool: installs no conda packages"},
		{"environment: {python: 3.10}", "environment.python: must be a string; put it in"},
		{"environment: {python: 'three'}", "environment.python: must be a version"},
		{"environment: {reuse: locked}", "environment.reuse: locked needs lock_file"},
		{"environment: {reuse: never}", "must be reuse, refresh or locked"},
		{"environment: {lock_file: x, reuse: refresh}", "must be locked where lock_file"},
		{"environment: {index_url: 'https://u:p@h/'}", "must not have a user or password"},
		{"environment: {index_url: 'https://h:x/'}", "has no valid host"},
		{"environment: {channels: ['https://h/t/tk-1/c']}", "must not have a token"},
		{"environment: {channels: [./local]}", "must be the name of a channel"},
		{"environment: {channel: x}", "did you mean \"channels\"?"},
		{"environment: {as_of: 2026}", "must be a string; put it in quotes"},
		{"environment: {max_age: 1y}", "seconds, or a time such as 12h or 7d"},
		{"pip_packages: ['-e .']", "pip_packages[0]: editable packages are not installed"},
		{"pip_packages: ['-r x.txt']", "write pip_requirements_file instead"},
		{"pip_packages: ['--index-url=x']", "write environment.index_url instead"},
		{"pip_packages: ['--find-links x']", "serve them as an index"},
		{"pip_packages: ['a --global-option=x']", "options of pip are not supported"},
		{"pip_packages: ['./a']", "is a path, which the build does not see"},
		{"pip_packages: ['a/b']", "is a path"},
		{"pip_packages: [a.whl]", "is a path"},
		{"pip_packages: ['a @ file:///x']", "is a path"},
		{"pip_packages: ['a @ https://u:p@h/x']",
			"must not have a user, password or token"},
		{"pip_packages: ['a @ git+https://t@h/x']", "must not have a user, password"},
		{"pip_packages: ['a==${V}']", "variables (${…}) are not replaced"},
		{"conda_packages: ['https://h/x.conda']", "is an address or a path"},
		{"conda_packages: [--offline]", "options of conda do not belong here"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_job_spec struct job_spec s = {0};
		cleanup_free char *text = xasprintf("entry_script: a\n%s\n", cases[i].text);
		struct error err = {0};
		if (parse(&s, text, &err) == 0)
			fail_msg("accepted %s", cases[i].text);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s: %s", cases[i].text, err.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decodes_all_keys),
		cmocka_unit_test(has_defaults),
		cmocka_unit_test(flattens_arguments),
		cmocka_unit_test(refuses),
		cmocka_unit_test(has_limits),
		cmocka_unit_test(refers_to_inputs),
		cmocka_unit_test(bounds_references),
		cmocka_unit_test(decodes_environments),
		cmocka_unit_test(refuses_environments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
