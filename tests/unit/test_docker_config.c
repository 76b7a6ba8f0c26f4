// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/docker_config.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char folder[] = "/tmp/test_docker_config.XXXXXX";

static void put(const char *name, const char *text, mode_t mode)
{
	cleanup_free char *path = path_join(folder, name);
	struct error err = {0};
	assert_int_equal(file_write_atomic(AT_FDCWD, path, text, strlen(text), mode, &err), 0);
}

static int lookup(
	const char *config, const char *domain, struct registry_credentials *c, struct error *err)
{
	put("config.json", config, 0600);
	return docker_config_lookup(folder, domain, c, err);
}

static void assert_text(const char *value, const char *expected)
{
	if (expected)
		assert_string_equal(value ? value : "(null)", expected);
	else
		assert_null(value);
}

static void finds_entries(void **state)
{
	static const struct {
		const char *config, *domain, *username, *password, *token;
	} cases[] = {
		// "YTpi" is a:b, "YTpiOmM=" is a:b:c
		{"{}", "docker.io", NULL, NULL, NULL},
		{"{\"auths\":{}}", "docker.io", NULL, NULL, NULL},
		{"{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"YTpi\"}}}", "docker.io",
			"a", "b", NULL},
		{"{\"auths\":{\"docker.io\":{\"auth\":\"YTpi\"}}}", "docker.io", "a", "b", NULL},
		{"{\"auths\":{\"registry-1.docker.io\":{\"auth\":\"YTpi\"}}}", "docker.io", "a",
			"b", NULL},
		{"{\"auths\":{\"localhost:5000\":{\"auth\":\"YTpiOmM=\"}}}", "localhost:5000", "a",
			"b:c", NULL},
		{"{\"auths\":{\"localhost:5000\":{\"auth\":\"YTpi\"}}}", "localhost", NULL, NULL,
			NULL},
		{"{\"auths\":{\"localhost\":{\"auth\":\"YTpi\"}}}", "localhost:5000", NULL, NULL,
			NULL},
		{"{\"auths\":{\"http://h:1/v2/\":{\"auth\":\"YTpi\"}}}", "h:1", "a", "b", NULL},
		{"{\"auths\":{\"h\":{\"username\":\"u\",\"password\":\"p\"}}}", "h", "u", "p",
			NULL},
		{"{\"auths\":{\"h\":{\"auth\":\"\",\"identitytoken\":\"t\"}}}", "h", NULL, NULL,
			"t"},
		{"{\"auths\":{\"h\":{\"auth\":\"YTpi\",\"identitytoken\":\"t\"}}}", "h", "a", "b",
			"t"},
		{"{\"auths\":{\"h\":{}},\"credsStore\":\"\"}", "h", NULL, NULL, NULL},
		{"{\"auths\":[],\"credHelpers\":7}", "h", NULL, NULL, NULL},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_credentials struct registry_credentials c = {0};
		struct error err = {0};
		assert_int_equal(lookup(cases[i].config, cases[i].domain, &c, &err), 0);
		assert_text(c.username, cases[i].username);
		assert_text(c.password, cases[i].password);
		assert_text(c.identity_token, cases[i].token);
		assert_null(c.note);
	}
}

static void refuses_damaged_files(void **state)
{
	static const struct {
		const char *config, *expected;
	} cases[] = {
		{"{", "config.json:"},
		{"{\"auths\":{\"h\":{\"auth\":\"*\"}}}",
			"config.json: the \"auth\" of h is not base64 of user:password; run docker "
			"login h again"},
		{"{\"auths\":{\"h\":{\"auth\":\"YWI=\"}}}", "is not base64 of user:password"},
		{"{\"auths\":{\"h\":{\"auth\":\"OmI=\"}}}", "is not base64 of user:password"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct registry_credentials c;
		struct error err = {0};
		assert_int_equal(lookup(cases[i].config, "h", &c, &err), -1);
		assert_int_equal(err.kind, ERROR_INVALID);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s", err.text);
		assert_null(c.username);
	}
}

static void a_missing_file_is_anonymous(void **state)
{
	struct registry_credentials c;
	struct error err = {0};
	cleanup_free char *missing = path_join(folder, "missing");
	(void)state;
	assert_int_equal(docker_config_lookup(missing, "h", &c, &err), 0);
	assert_null(c.username);
}

static void takes_the_folder_from_the_environment(void **state)
{
	struct error err = {0};
	(void)state;
	put("config.json", "{\"auths\":{\"h\":{\"auth\":\"YTpi\"}}}", 0600);
	cleanup_credentials struct registry_credentials c = {0};
	setenv("DOCKER_CONFIG", folder, 1);
	assert_int_equal(docker_config_lookup(NULL, "h", &c, &err), 0);
	assert_text(c.username, "a");
	unsetenv("DOCKER_CONFIG");
	setenv("HOME", "/nonexistent", 1);
	cleanup_credentials struct registry_credentials other = {0};
	assert_int_equal(docker_config_lookup(NULL, "h", &other, &err), 0);
	assert_null(other.username);
}

// Helper programs in PATH: one that knows two hosts, one that fails, one that talks nonsense.
static void asks_helpers(void **state)
{
	static const struct {
		const char *config, *domain, *username, *password, *token, *note;
	} cases[] = {
		{"{\"credsStore\":\"good\"}", "h", "user", "secret of h", NULL, NULL},
		{"{\"credHelpers\":{\"h\":\"good\"},\"credsStore\":\"bad\"}", "h", "user",
			"secret of h", NULL, NULL},
		{"{\"credHelpers\":{\"other\":\"bad\"},\"credsStore\":\"good\"}", "h", "user",
			"secret of h", NULL, NULL},
		{"{\"credsStore\":\"good\"}", "docker.io", "user",
			"secret of https://index.docker.io/v1/", NULL, NULL},
		{"{\"credsStore\":\"good\"}", "token", NULL, NULL, "refresh", NULL},
		{"{\"credsStore\":\"good\",\"auths\":{\"unknown\":{\"auth\":\"YTpi\"}}}", "unknown",
			"a", "b", NULL, "exited with status 1"},
		{"{\"credsStore\":\"good\"}", "unknown", NULL, NULL, NULL,
			"docker-credential-good exited with status 1"},
		{"{\"credsStore\":\"bad\"}", "h", NULL, NULL, NULL, "the keychain is locked"},
		{"{\"credsStore\":\"odd\"}", "h", NULL, NULL, NULL, "no Username and Secret"},
		{"{\"credsStore\":\"none\"}", "h", NULL, NULL, NULL, "docker-credential-none"},
		{"{\"credsStore\":\"../good\"}", "h", NULL, NULL, NULL, "is no file name"},
	};
	(void)state;
	put("docker-credential-good",
		"#!/bin/sh\n[ \"$1\" = get ] || exit 2\nread -r host\ncase $host in\n"
		"token) echo '{\"Username\":\"<token>\",\"Secret\":\"refresh\"}' ;;\n"
		"unknown) echo credentials not found in native keychain; exit 1 ;;\n"
		"*) echo \"{\\\"ServerURL\\\":\\\"$host\\\",\\\"Username\\\":\\\"user\\\","
		"\\\"Secret\\\":\\\"secret of $host\\\"}\" ;;\nesac\n",
		0700);
	put("docker-credential-bad", "#!/bin/sh\necho the keychain is locked >&2\nexit 1\n", 0700);
	put("docker-credential-odd", "#!/bin/sh\necho '{}'\n", 0700);
	cleanup_free char *path = xasprintf("%s:/usr/bin:/bin", folder);
	setenv("PATH", path, 1);
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_credentials struct registry_credentials c = {0};
		struct error err = {0};
		assert_int_equal(lookup(cases[i].config, cases[i].domain, &c, &err), 0);
		assert_text(c.username, cases[i].username);
		assert_text(c.password, cases[i].password);
		assert_text(c.identity_token, cases[i].token);
		if (!cases[i].note)
			assert_text(c.note, NULL);
		else if (!c.note || !strstr(c.note, cases[i].note))
			fail_msg("%s: %s", cases[i].config, c.note ? c.note : "no note");
	}
}

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	struct error err;
	(void)state;
	return directory_remove(AT_FDCWD, folder, &err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_entries),
		cmocka_unit_test(refuses_damaged_files),
		cmocka_unit_test(a_missing_file_is_anonymous),
		cmocka_unit_test(takes_the_folder_from_the_environment),
		cmocka_unit_test(asks_helpers),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
