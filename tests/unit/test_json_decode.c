// SPDX-License-Identifier: Apache-2.0
#include "base/json_decode.h"

#include "base/text.h"
#include "base/yaml.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct port {
	const char *name;
	uint64_t number;
};

struct sample {
	const char *entry_script;
	int64_t offset;
	uint64_t size;
	bool enabled;
	double rate;
	struct json_strings arguments;
	struct json_pairs environment;
	const struct json *extra;
	struct port *ports;
	size_t port_count;
};

static const struct json_field port_fields[] = {
	{"name", json_decode_string, offsetof(struct port, name), JSON_REQUIRED},
	{"number", json_decode_uint64, offsetof(struct port, number),
		JSON_REQUIRED | JSON_NULLABLE},
	{0},
};

static int decode_port(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct port *port = target;
	if (json_decode_object(d, value, port_fields, true, port, err) < 0)
		return -1;
	if (port->number > 65535)
		return json_decode_fail(d, value, err, ERROR_INVALID, "no port %s", port->name);
	return 0;
}

static int decode_ports(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	struct sample *sample = (struct sample *)((char *)target - offsetof(struct sample, ports));
	return json_decode_array(d, value, decode_port, sizeof(struct port), 3,
		(void **)&sample->ports, &sample->port_count, err);
}

static const struct json_field fields[] = {
	{"entry_script", json_decode_string, offsetof(struct sample, entry_script), JSON_REQUIRED},
	{"offset", json_decode_int64, offsetof(struct sample, offset), 0},
	{"size", json_decode_uint64, offsetof(struct sample, size), JSON_NULLABLE},
	{"enabled", json_decode_bool, offsetof(struct sample, enabled), 0},
	{"rate", json_decode_double, offsetof(struct sample, rate), 0},
	{"arguments", json_decode_strings, offsetof(struct sample, arguments), 0},
	{"environment", json_decode_pairs, offsetof(struct sample, environment), 0},
	{"extra", json_decode_any, offsetof(struct sample, extra), 0},
	{"ports", decode_ports, offsetof(struct sample, ports), 0},
	{0},
};

static int decode(struct arena *a, const char *text, bool positions, bool strict,
	struct sample *sample, struct error *err)
{
	const struct json *root = yaml_parse(a, text, strlen(text), "job.yaml", NULL, err);
	struct json_decoder d = {
		.arena = a,
		.document = positions ? "job.yaml" : NULL,
		.positions = positions,
	};
	assert_non_null(root);
	int status = json_decode_object(&d, root, fields, strict, sample, err);
	assert_int_equal(d.path_length, 0); // every place that was entered was left
	return status;
}

static void test_accepted(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	struct sample s = {.size = 7};
	static const char text[] = "entry_script: train.py\n"
				   "offset: -3\n"
				   "size: null\n"
				   "enabled: true\n"
				   "rate: 2\n"
				   "arguments: [--lr, '0.1']\n"
				   "environment: {B: x, A: y}\n"
				   "extra: {deep: [1]}\n"
				   "ports:\n"
				   "- {name: http, number: 80}\n"
				   "- {name: ssh, number: 22}\n";
	assert_int_equal(decode(&a, text, true, true, &s, &err), 0);
	assert_string_equal(s.entry_script, "train.py");
	assert_int_equal(s.offset, -3);
	assert_int_equal(s.size, 7); // null is absent
	assert_true(s.enabled);
	assert_true(s.rate == 2.0);
	assert_int_equal(s.arguments.count, 2);
	assert_string_equal(s.arguments.items[1], "0.1");
	assert_null(s.arguments.items[2]);
	assert_int_equal(s.environment.count, 2);
	assert_string_equal(s.environment.items[0].key, "B");
	assert_string_equal(s.environment.items[1].value, "y");
	assert_int_equal(json_get(s.extra, "deep")->count, 1);
	assert_int_equal(s.port_count, 2);
	assert_string_equal(s.ports[1].name, "ssh");
	assert_int_equal(s.ports[1].number, 22);
}

static void test_not_strict(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	struct sample s = {0};
	assert_int_equal(decode(&a, "{unknown: 1, entry_script: a}", false, false, &s, &err), 0);
	assert_string_equal(s.entry_script, "a");
}

static const struct {
	const char *input, *expected;
} refused[] = {
	{"[1]", "job.yaml:1:1: must be an object"},
	{"size: 1", "job.yaml:1:1: key \"entry_script\" is missing"},
	{"entry_scrpt: a",
		"job.yaml:1:1: unknown key \"entry_scrpt\", did you mean \"entry_script\"?"},
	{"entry_script: a\nentry-scirpt: b",
		"job.yaml:2:1: unknown key \"entry-scirpt\", did you mean \"entry_script\"?"},
	{"entry_script: a\nnotebook: b", "job.yaml:2:1: unknown key \"notebook\""},
	{"entry_script: a\nsiez: 1", "job.yaml:2:1: unknown key \"siez\", did you mean \"size\"?"},
	{"entry_script: a\nab: 1", "job.yaml:2:1: unknown key \"ab\""},
	{"entry_script: null", "job.yaml:1:15: entry_script: must be a string"},
	{"entry_script: 3.10", "job.yaml:1:15: entry_script: must be a string; put it in quotes"},
	{"entry_script: [a]", "job.yaml:1:15: entry_script: must be a string"},
	{"entry_script: a\noffset: 1.5", "job.yaml:2:9: offset: must be an integer"},
	{"entry_script: a\nsize: -1", "job.yaml:2:7: size: must be a non-negative integer"},
	{"entry_script: a\nenabled: yes", "job.yaml:2:10: enabled: must be true or false"},
	{"entry_script: a\nrate: fast", "job.yaml:2:7: rate: must be a number"},
	{"entry_script: a\narguments: x", "job.yaml:2:12: arguments: must be an array of strings"},
	{"entry_script: a\narguments: [x, 1]",
		"job.yaml:2:16: arguments[1]: must be a string; put it in quotes"},
	{"entry_script: a\nenvironment: [x]",
		"job.yaml:2:14: environment: must be an object of strings"},
	{"entry_script: a\nenvironment: {A: x, OMP_NUM_THREADS: 4}",
		"job.yaml:2:38: environment.OMP_NUM_THREADS: must be a string; put it in quotes"},
	{"entry_script: a\nenvironment: {a.b c: 4}",
		"job.yaml:2:22: environment[\"a.b c\"]: must be a string; put it in quotes"},
	{"entry_script: a\nports: {}", "job.yaml:2:8: ports: must be an array"},
	{"entry_script: a\nports: [{name: x, number: 1}, {name: x}]",
		"job.yaml:2:31: ports[1]: key \"number\" is missing"},
	{"entry_script: a\nports: [{name: x, number: ~}]",
		"job.yaml:2:9: ports[0]: key \"number\" is missing"},
	{"entry_script: a\nports: [{name: x, number: x}]",
		"job.yaml:2:27: ports[0].number: must be a non-negative integer"},
	{"entry_script: a\nports: [{name: x, numbr: 1}]",
		"job.yaml:2:19: ports[0]: unknown key \"numbr\", did you mean \"number\"?"},
	{"entry_script: a\nports: [{name: big, number: 65536}]",
		"job.yaml:2:9: ports[0]: no port big"},
};

static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(refused); i++) {
		cleanup_arena struct arena a = {0};
		struct error err = {0};
		struct sample s = {0};
		if (decode(&a, refused[i].input, true, true, &s, &err) == 0)
			fail_msg("%s: accepted", refused[i].input);
		assert_int_equal(err.kind, ERROR_INVALID);
		assert_string_equal(err.text, refused[i].expected);
	}
}

static void test_without_positions(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	struct sample s = {0};
	assert_int_equal(decode(&a, "{entry_script: 1}", false, false, &s, &err), -1);
	assert_string_equal(err.text, "entry_script: must be a string");
	struct json_decoder d = {.arena = &a, .document = "manifest"};
	struct json value = {.type = JSON_BOOL, .line = 1, .column = 1};
	assert_int_equal(json_decode_string(&d, &value, &s.entry_script, &err), -1);
	assert_string_equal(err.text, "manifest: must be a string");
}

static void test_limit(void **state)
{
	(void)state;
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	struct sample s = {0};
	static const char text[] = "entry_script: a\nports: [{}, {}, {}, {}]";
	assert_int_equal(decode(&a, text, true, true, &s, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_string_equal(err.text, "job.yaml:2:8: ports: 4 elements, at most 3 are allowed");
}

// A path longer than its room is cut, and leaving restores what was before.
static void test_long_path(void **state)
{
	(void)state;
	struct json_decoder d = {0};
	struct error err = {0};
	size_t entered[20];
	for (size_t i = 0; i < array_size(entered); i++)
		entered[i] = json_decode_enter_key(&d, "a_rather_long_name_of_a_key");
	assert_true(d.path_length < sizeof(d.path));
	assert_int_equal(strlen(d.path), d.path_length);
	assert_int_equal(json_decode_fail(&d, NULL, &err, ERROR_INVALID, "bad"), -1);
	assert_true(ends_with(err.text, ": bad"));
	for (size_t i = array_size(entered); i-- > 0;)
		json_decode_leave(&d, entered[i]);
	assert_string_equal(d.path, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_not_strict),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_without_positions),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_long_path),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
