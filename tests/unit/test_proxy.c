// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/proxy_internal.h"
#include "agent/environment/proxy_request.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define SHA "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void note_link(void *data, const struct package_link *l)
{
	static const char kinds[] = "ABN";
	buffer_printf(
		data, "%c %s %.4s\n", kinds[l->kind], l->url, *l->sha256 ? l->sha256 : "none");
}

static void test_links(void **state)
{
	static const struct {
		enum package_document kind;
		const char *text, *expected;
		int status;
	} cases[] = {
		{PACKAGE_HTML, "<a href=\"a.whl#sha256=" SHA "\">a</a>",
			"A a.whl#sha256=" SHA " 0123\n", 0},
		{PACKAGE_HTML, "<A\nclass='>' HREF = 'a&amp;b'>", "A a&b none\n", 0},
		{PACKAGE_HTML, "<a href=a/b.whl>", "A a/b.whl none\n", 0},
		{PACKAGE_HTML, "<!-- <a href='no'> --><abbr href='no'><a name=x href=' yes '>",
			"A yes none\n", 0},
		{PACKAGE_HTML, "<base href='/x/'><a href='1' href='2'>", "B /x/ none\nA 1 none\n",
			0},
		{PACKAGE_HTML, "<a href='a.whl#x' data-core-metadata='sha256=" SHA "'>",
			"A a.whl#x none\nN a.whl.metadata 0123\n", 0},
		{PACKAGE_HTML, "<a href='a\nb'><a href=''>", "", 0},
		{PACKAGE_HTML, "<a href=\"open", "A open none\n", 0},
		{PACKAGE_HTML, "<", "", 0},
		{PACKAGE_JSON,
			"{\"files\":[{\"hashes\":{\"sha256\":\"" SHA
			"\"},\"url\":\"https:\\/\\/h\\/a\","
			"\"core-metadata\":{\"sha256\":\"" SHA "\"}}, {\"url\":\"b\"}]}",
			"A https://h/a 0123\nN https://h/a.metadata 0123\nA b none\n", 0},
		{PACKAGE_JSON,
			"{\"x\":{\"url\":\"no\"},\"url\":\"no\",\"files\":{\"a\":{\"url\":\"no\"}}"
			"}",
			"", 0},
		{PACKAGE_JSON,
			"{\"info\":{\"base_url\":\"../x\"},\"packages\":{\"a-1.tar.bz2\":{\"n\":1,"
			"\"sha256\":\"" SHA "\"}},\"packages.conda\":{}}",
			"B ../x none\nN a-1.tar.bz2 0123\n", 0},
		{PACKAGE_JSON, "{\"files\":[{\"url\":\"a\\u0000b\"},{\"url\":\"\\\"\\u0041\"}]}",
			"A \"A none\n", 0},
		{PACKAGE_JSON, "{\"files\":[{\"url\":\"a\"", "", -1},
		{PACKAGE_JSON, "{\"files\":[{\"url\":\"a", "", -1},
		{PACKAGE_JSON, "]", "", -1},
		{PACKAGE_JSON, "[}", "", -1},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_buffer struct buffer found = {0};
		buffer_puts(&found, "");
		assert_int_equal(package_links_find(cases[i].kind, cases[i].text,
					 strlen(cases[i].text), note_link, &found),
			cases[i].status);
		assert_string_equal(found.data, cases[i].expected);
	}
}

static void test_depth(void **state)
{
	char text[PACKAGE_LINK_DEPTH_MAX + 1];
	(void)state;
	memset(text, '[', sizeof(text));
	assert_int_equal(package_links_find(PACKAGE_JSON, text, sizeof(text), note_link, NULL), -1);
}

static void test_targets(void **state)
{
	static const struct {
		const char *target, *url; // NULL: refused
	} cases[] = {
		{"/https/pypi.example/simple/", "https://pypi.example/simple/"},
		{"/http/a:8080/x?y=z", "http://a:8080/x?y=z"},
		{"/http/127.0.0.1%3A80/x", "http://127.0.0.1:80/x"},
		{"/http/%5b::1%5D%3a80/x", "http://[::1]:80/x"},
		{"/https/a", "https://a/"},
		{"/https/a/..b/.c/...", "https://a/..b/.c/..."},
		{"/https/a/b?c=/../d", "https://a/b?c=/../d"},
		{"/https/a/..", NULL},
		{"/https/a/./b", NULL},
		{"/https/a/%2E./b", NULL},
		{"/https/a/%2e%2e%2fb", NULL},
		{"/https/a/..%5cb", NULL},
		{"/https/u@a/", NULL},
		{"/https/u%40a/", NULL},
		{"/https//a", NULL},
		{"/https/", NULL},
		{"/file/etc/passwd", NULL},
		{"/https/a/b#c", NULL},
		{"/https/a/\xc3\xa9", NULL},
		{"//a/b", NULL},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		char url[PACKAGE_URL_MAX];
		struct error err = {0};
		int status = package_url_of_target(cases[i].target, url, &err);
		assert_int_equal(status, cases[i].url ? 0 : -1);
		if (cases[i].url)
			assert_string_equal(url, cases[i].url);
		else
			assert_int_equal(err.kind, ERROR_INVALID);
	}
}

static void test_addresses(void **state)
{
	static const struct {
		const char *outside, *inside, *back;
	} cases[] = {
		{"https://h/a#b", "http://127.0.0.1:1041/https/h/a#b", "https://h/a#b"},
		{"http://u:p@h:1/a", "http://127.0.0.1:1041/http/h:1/a", "http://h:1/a"},
		{"https://h/t/tk/c", "http://127.0.0.1:1041/https/h/c", "https://h/c"},
		{"git+https://h/a", "git+https://h/a", "git+https://h/a"},
		{"file:///a", "file:///a", "file:///a"},
	};
	cleanup_arena struct arena a = {0};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		const char *inside = package_proxy_url(&a, cases[i].outside);
		assert_string_equal(inside, cases[i].inside);
		assert_string_equal(package_proxy_original(&a, inside), cases[i].back);
	}
	assert_string_equal(
		package_proxy_original(&a, "http://127.0.0.1:1041/http/h%3A80/a"), "http://h:80/a");
	assert_string_equal(package_proxy_original(&a, "http://127.0.0.1:10410/http/h/a"),
		"http://127.0.0.1:10410/http/h/a");
}

static void test_credentials(void **state)
{
	const char *sources[] = {"https://one.example/simple/", "http://two.example:8080/x"};
	const struct json_strings list = {sources, 2};
	struct package_credentials c = {0};
	cleanup_buffer struct buffer header = {0};
	(void)state;
	package_credentials_add_url(&c, "https://u:p%40ss@three.example/a");
	package_credentials_add_url(&c, "https://four.example/t/tk/chan/");
	package_credentials_add_netrc(&c,
		"# x\nmachine other.example login no password no\n"
		"machine one.example\n\tlogin ada password \"s p\\\"\"\nmacdef m\nlogin x\n\n"
		"default login any password all",
		&list);
	const struct package_credential *found =
		package_credential_for(&c, "https://three.example:443/files/b");
	assert_string_equal(found->password, "p@ss");
	package_credential_header(found, &header);
	assert_string_equal(header.data, "Authorization: Basic dTpwQHNz");
	assert_null(package_credential_for(&c, "http://three.example/a"));
	found = package_credential_for(&c, "https://four.example/chan/noarch/repodata.json");
	cleanup_free char *url =
		package_credential_url(found, "https://four.example/chan/noarch/repodata.json");
	assert_string_equal(url, "https://four.example/t/tk/chan/noarch/repodata.json");
	assert_null(package_credential_for(&c, "https://four.example/channel/x"));
	found = package_credential_for(&c, "https://one.example/files/a");
	assert_string_equal(found->password, "s p\"");
	assert_string_equal(package_credential_for(&c, "http://two.example:8080/")->user, "any");
	assert_null(package_credential_for(&c, "http://two.example/"));
	assert_null(package_credential_for(&c, "https://other.example/"));
	package_credentials_release(&c);
}

static void test_requests(void **state)
{
	static const struct {
		const char *text;
		int status;
	} cases[] = {
		{"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", 0},
		{"HEAD /a HTTP/1.0\r\n\r\n", 0},
		{"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 0},
		{"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
			400},
		{"GET /a HTTP/1.1\nHost: h\n\n\r\n\r\n", 400},
		{"GET  /a HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		{"GET /a  HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		{"GET /a\r\n\r\n", 400},
		{"get /a HTTP/1.1\r\nHost: h\r\n\r\n", 405},
		{"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		{"GET /a HTTP/1.1\r\n: h\r\n\r\n", 400},
		{"GET /a HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\n\r\n", 400},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_free char *text = xstrdup(cases[i].text);
		struct proxy_request r;
		const char *why;
		assert_int_equal(
			proxy_request_parse(text, strlen(text), &r, &why), cases[i].status);
		assert_int_equal(*why != '\0', cases[i].status != 0);
	}
}

static void test_ranges(void **state)
{
	static const struct {
		const char *text;
		uint64_t size;
		int status;
		uint64_t first, last;
	} cases[] = {
		{"bytes=0-0", 10, 1, 0, 0},
		{"bytes=5-", 10, 1, 5, 9},
		{"bytes=5-99", 10, 1, 5, 9},
		{"bytes=-3", 10, 1, 7, 9},
		{"bytes=-30", 10, 1, 0, 9},
		{"bytes=10-", 10, -1, 0, 0},
		{"bytes=-0", 10, -1, 0, 0},
		{"bytes=-5", 0, -1, 0, 0},
		{"bytes=5-4", 10, 0, 0, 0},
		{"bytes=0-1,3-4", 10, 0, 0, 0},
		{"bytes=a-b", 10, 0, 0, 0},
		{"bytes=-", 10, 0, 0, 0},
		{"bytes=18446744073709551616-", 10, 0, 0, 0},
		{"lines=0-1", 10, 0, 0, 0},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		uint64_t first = 0, last = 0;
		assert_int_equal(proxy_range_parse(cases[i].text, cases[i].size, &first, &last),
			cases[i].status);
		if (cases[i].status == 1) {
			assert_int_equal(first, cases[i].first);
			assert_int_equal(last, cases[i].last);
		}
	}
	assert_true(proxy_tag_in("\"a\", W/\"b\"", "\"b\""));
	assert_true(proxy_tag_in("*", "\"b\""));
	assert_false(proxy_tag_in("\"bb\"", "\"b\""));
}

static void test_hashes(void **state)
{
	struct proxy_hashes *h = proxy_hashes_new();
	char hex[65], url[64];
	(void)state;
	for (int i = 0; i < 5000; i++) {
		snprintf(url, sizeof(url), "https://h/%d", i);
		proxy_hashes_add(h, url, SHA);
	}
	assert_true(proxy_hashes_find(h, "https://h/4999#x", hex));
	assert_string_equal(hex, SHA);
	assert_false(proxy_hashes_find(h, "https://h/5000", hex));
	proxy_hashes_add(h, "https://h/1",
		"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff");
	assert_false(proxy_hashes_find(h, "https://h/1", hex));
	proxy_hashes_free(h);
}

static void test_settings(void **state)
{
	cleanup_arena struct arena a = {0};
	cleanup_config struct config config = {0};
	cleanup_buffer struct buffer text = {0};
	const char *sources[] = {"https://u:p@h/simple", "git+https://g/x", "http://127.0.0.1:1/c"};
	const struct json_strings list = {sources, 3};
	struct proxy_settings s, again;
	struct error err = {0};
	(void)state;
	assert_int_equal(config_parse(&config, "{}", 2, "x", &err), 0);
	assert_int_equal(proxy_settings_make(&a, &config, &list, &s, &err), 0);
	assert_int_equal(proxy_settings_write(&s, &text, &err), 0);
	assert_int_equal(proxy_settings_read(&a, text.data, text.size, &again, &err), 0);
	assert_int_equal(again.sources.count, 2);
	assert_string_equal(again.sources.items[0], "https://h/simple");
	assert_int_equal(again.credentials.count, 1);
	assert_string_equal(again.credentials.items[0].password, "p");
	assert_int_equal(again.stall_ms, 30000);
	assert_int_equal(again.tries, 6);
	package_credentials_release(&s.credentials);
	package_credentials_release(&again.credentials);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_links),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_credentials),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_hashes),
		cmocka_unit_test(test_settings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
