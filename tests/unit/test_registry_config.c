// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/config.h"

#include "base/text.h"
#include "base/yaml.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static int decode(struct arena *a, const char *text, struct registry_config *c, struct error *err)
{
	*c = registry_config_default;
	const struct json *tree =
		yaml_parse(a, text, strlen(text), "agent.yaml", &json_limits_default, err);
	struct json_decoder d = {.arena = a, .document = "agent.yaml", .positions = true};
	return tree ? registry_config_decode(&d, tree, c, err) : -1;
}

static void reads_everything(void **state)
{
	cleanup_arena struct arena arena = {0};
	struct registry_config c;
	struct error err = {0};
	(void)state;
	int status = decode(&arena,
		"connections: 3\nstall_timeout: 5\nretries: 0\ndocker_config: /etc/stoker/docker\n"
		"hosts:\n"
		"  docker.io:\n"
		"    mirrors: ['https://mirror.example:5000', 'http://10.0.0.1:5000/prefix/']\n"
		"    proxy: http://proxy:3128\n"
		"  localhost:5000: {ca: /ca.pem, username: u, password_file: /secret}\n"
		"  intern: {http: true}\n",
		&c, &err);
	assert_string_equal(err.text, "");
	assert_int_equal(status, 0);
	assert_int_equal(c.connections, 3);
	assert_int_equal(c.stall_timeout, 5);
	assert_int_equal(c.retries, 0);
	assert_string_equal(c.docker_config, "/etc/stoker/docker");
	assert_int_equal(c.host_count, 3);
	const struct registry_host *hub = registry_config_host(&c, "docker.io");
	assert_int_equal(hub->mirrors.count, 2);
	assert_string_equal(hub->mirrors.items[1], "http://10.0.0.1:5000/prefix/");
	assert_null(hub->mirrors.items[2]);
	assert_string_equal(hub->proxy, "http://proxy:3128");
	const struct registry_host *local = registry_config_host(&c, "localhost:5000");
	assert_string_equal(local->ca, "/ca.pem");
	assert_string_equal(local->username, "u");
	assert_string_equal(local->password_file, "/secret");
	assert_false(local->http);
	assert_true(registry_config_host(&c, "intern")->http);
	assert_null(registry_config_host(&c, "localhost"));
}

static void has_defaults(void **state)
{
	cleanup_arena struct arena arena = {0};
	struct registry_config c;
	struct error err = {0};
	(void)state;
	assert_int_equal(decode(&arena, "{}", &c, &err), 0);
	assert_int_equal(c.connections, 6);
	assert_int_equal(c.stall_timeout, 30);
	assert_int_equal(c.retries, 6);
	assert_null(c.docker_config);
	assert_null(registry_config_host(&c, "docker.io"));
}

static void says_what_is_wrong(void **state)
{
	static const struct {
		const char *input, *expected;
	} cases[] = {
		{"[]", "agent.yaml:1:1: must be an object"},
		{"connection: 1", "agent.yaml:1:1: unknown key \"connection\", did you mean "
				  "\"connections\"?"},
		{"connections: 0", "agent.yaml:1:14: connections: must be between 1 and 32"},
		{"connections: 33", "agent.yaml:1:14: connections: must be between 1 and 32"},
		{"stall_timeout: 0", "agent.yaml:1:16: stall_timeout: must be between 1 and 3600"},
		{"retries: -1", "agent.yaml:1:10: retries: must be a non-negative integer"},
		{"docker_config: docker",
			"agent.yaml:1:16: docker_config: \"docker\" must be an absolute path"},
		{"hosts: []", "agent.yaml:1:8: hosts: must be an object"},
		{"hosts: {a/b: {}}", "agent.yaml:1:14: hosts[\"a/b\"]: must be a host as image "
				     "names begin with, "
				     "such as docker.io or localhost:5000"},
		{"hosts: {a: {https: true}}",
			"agent.yaml:1:13: hosts.a: unknown key \"https\", did you mean \"http\"?"},
		{"hosts: {a: {mirrors: [b]}}",
			"agent.yaml:1:23: hosts.a.mirrors[0]: \"b\" is not a URL; expected "
			"https://host[:port] or http://host[:port]"},
		{"hosts: {a: {mirrors: ['ftp://b']}}",
			"agent.yaml:1:23: hosts.a.mirrors[0]: \"ftp://b\" is not a URL; expected "
			"https://host[:port] or http://host[:port]"},
		{"hosts: {a: {mirrors: ['https://u:p@b']}}",
			"agent.yaml:1:23: hosts.a.mirrors[0]: \"https://u:p@b\" must be a host, a "
			"port and a path alone; credentials go under hosts"},
		{"hosts: {a: {username: u}}",
			"agent.yaml:1:12: hosts.a: username and password_file belong together"},
		{"hosts: {a: {ca: ca.pem}}",
			"agent.yaml:1:17: hosts.a.ca: \"ca.pem\" must be an absolute path"},
		{"hosts: {a: {ca: /ca.pem, http: true}}",
			"agent.yaml:1:12: hosts.a: http: true has no use for a ca; remove one of "
			"them"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena arena = {0};
		struct registry_config c;
		struct error err = {0};
		assert_int_equal(decode(&arena, cases[i].input, &c, &err), -1);
		assert_int_equal(err.kind, ERROR_INVALID);
		assert_string_equal(err.text, cases[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_everything),
		cmocka_unit_test(has_defaults),
		cmocka_unit_test(says_what_is_wrong),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
