// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/settings.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static char folder[] = "/tmp/test_registry_settings.XXXXXX";

static const char *put(struct arena *a, const char *name, const char *text)
{
	const char *path = arena_printf(a, "%s/%s", folder, name);
	struct error err = {0};
	assert_int_equal(file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, &err), 0);
	return path;
}

static int make(struct arena *a, struct registry_host *hosts, size_t count, const char *image,
	struct registry_settings *s, struct error *err)
{
	struct registry_config config = registry_config_default;
	struct oci_reference reference;
	config.docker_config = folder;
	config.hosts = hosts;
	config.host_count = count;
	assert_int_equal(oci_reference_parse(image, &reference, err), 0);
	return registry_settings_make(a, &config, &reference, s, err);
}

static void chooses_the_scheme(void **state)
{
	static const struct {
		const char *image;
		bool http, ca;
		const char *url;
	} cases[] = {
		{"python", false, false, "https://registry-1.docker.io"},
		{"ghcr.io/a/b", false, false, "https://ghcr.io"},
		{"ghcr.io/a/b", true, false, "http://ghcr.io"},
		{"localhost:5000/a", false, false, "http://localhost:5000"},
		{"localhost:5000/a", false, true, "https://localhost:5000"},
		{"127.0.0.1/a", false, false, "http://127.0.0.1"},
		{"127.1.2.3:80/a", false, false, "http://127.1.2.3:80"},
		{"[::1]:5000/a", false, false, "http://[::1]:5000"},
		{"[::2]:5000/a", false, false, "https://[::2]:5000"},
		{"128.0.0.1/a", false, false, "https://128.0.0.1"},
		{"127.0.0.1.example.com/a", false, false, "https://127.0.0.1.example.com"},
		{"localhost.example.com/a", false, false, "https://localhost.example.com"},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena arena = {0};
		struct registry_settings s;
		struct error err = {0};
		struct oci_reference r;
		assert_int_equal(oci_reference_parse(cases[i].image, &r, &err), 0);
		struct registry_host host = {.name = r.domain, .http = cases[i].http};
		if (cases[i].ca)
			host.ca = put(&arena, "ca.pem", "-----BEGIN CERTIFICATE-----\n");
		assert_int_equal(make(&arena, &host, 1, cases[i].image, &s, &err), 0);
		assert_int_equal(s.endpoint_count, 1);
		assert_string_equal(s.endpoints[0].url, cases[i].url);
		assert_string_equal(s.endpoints[0].name, r.domain);
	}
}

static void survives_the_journey(void **state)
{
	cleanup_arena struct arena arena = {0}, other = {0};
	cleanup_buffer struct buffer bytes = {0};
	struct registry_settings s, t;
	struct error err = {0};
	(void)state;
	const char *mirrors[] = {"http://10.0.0.1:5000/prefix/", "https://mirror.example", NULL};
	struct registry_host hosts[] = {
		{.name = "docker.io", .mirrors = {mirrors, 2}, .username = "alice"},
		{.name = "mirror.example", .proxy = "http://proxy:3128"},
	};
	hosts[0].password_file = put(&arena, "password", "s3cret-p:ssw0rd\n");
	hosts[1].ca = put(&arena, "ca.pem", "caf\xe9\n-----BEGIN CERTIFICATE-----\n");
	put(&arena, "config.json",
		"{\"auths\":{\"10.0.0.1:5000\":{\"auth\":\"YTpi\","
		"\"identitytoken\":\"t\"}}}");
	setenv("https_proxy", "http://out:1", 1);
	setenv("NO_PROXY", "a,b", 1);
	assert_int_equal(make(&arena, hosts, 2, "a/b", &s, &err), 0);
	unsetenv("https_proxy");
	unsetenv("NO_PROXY");
	registry_settings_write(&s, &bytes);
	assert_int_equal(registry_settings_read(&other, bytes.data, bytes.size, &t, &err), 0);
	assert_string_equal(t.subject, "docker.io/a/b");
	assert_string_equal(t.path, "a/b");
	assert_int_equal(t.connections, 6);
	assert_int_equal(t.stall_ms, 30000);
	assert_int_equal(t.retries, 6);
	assert_string_equal(t.https_proxy, "http://out:1");
	assert_null(t.http_proxy);
	assert_string_equal(t.no_proxy, "a,b");
	assert_int_equal(t.endpoint_count, 3);
	assert_string_equal(t.endpoints[0].url, "http://10.0.0.1:5000/prefix");
	assert_string_equal(t.endpoints[0].name, "10.0.0.1:5000");
	assert_string_equal(t.endpoints[0].basic, "YTpi");
	assert_string_equal(t.endpoints[0].identity_token, "t");
	assert_null(t.endpoints[0].ca);
	assert_string_equal(t.endpoints[1].name, "mirror.example");
	assert_string_equal(t.endpoints[1].ca, "caf\xe9\n-----BEGIN CERTIFICATE-----\n");
	assert_string_equal(t.endpoints[1].proxy, "http://proxy:3128");
	assert_null(t.endpoints[1].basic);
	assert_string_equal(t.endpoints[2].basic, "YWxpY2U6czNjcmV0LXA6c3N3MHJk");

	for (size_t size = 0; size < bytes.size; size++)
		assert_int_equal(registry_settings_read(&other, bytes.data, size, &t, &err), -1);
	assert_string_equal(err.text, "the settings of the fetcher are damaged");
}

static void says_what_is_wrong(void **state)
{
	cleanup_arena struct arena arena = {0};
	struct registry_settings s;
	struct error err = {0};
	(void)state;
	put(&arena, "config.json", "{}");
	struct registry_host host = {.name = "h", .ca = put(&arena, "empty", "")};
	assert_int_equal(
		make(&arena, &host, 1, "h/x", &s, &err), 0); // "h" is no domain: Docker Hub
	host.name = "h.example";
	assert_int_equal(make(&arena, &host, 1, "h.example/x", &s, &err), -1);
	assert_int_equal(err.kind, ERROR_INVALID);
	assert_non_null(strstr(err.text, "empty: holds no certificate in PEM form"));

	host = (struct registry_host){.name = "h.example", .username = "u"};
	host.password_file = put(&arena, "blank", "\n\n");
	assert_int_equal(make(&arena, &host, 1, "h.example/x", &s, &err), -1);
	assert_non_null(strstr(err.text, "credentials for h.example: "));
	assert_non_null(strstr(err.text, "blank: holds no password"));

	host.password_file = "/nonexistent/password";
	assert_int_equal(make(&arena, &host, 1, "h.example/x", &s, &err), -1);
	assert_int_equal(err.kind, ERROR_NOT_FOUND);
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
		cmocka_unit_test(chooses_the_scheme),
		cmocka_unit_test(survives_the_journey),
		cmocka_unit_test(says_what_is_wrong),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
