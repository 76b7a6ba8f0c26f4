// SPDX-License-Identifier: Apache-2.0
#include "agent/data/copy.h"
#include "agent/data/download.h"
#include "agent/data/download_address.h"
#include "agent/data/download_part.h"
#include "agent/data/prepare.h"
#include "agent/data/unpack.h"
#include "base/file.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static void shows_urls_without_secrets(void **state)
{
	static const struct {
		const char *url, *shown;
	} cases[] = {
		{"https://h/a/b?x", "https://h/a/b?x"},
		{"https://user:pw@h:1/a", "https://h:1/a"},
		{"https://user:p@w@h/a", "https://h/a"},
		{"https://h/a@b", "https://h/a@b"},
		{"https://h/a?sig=secret&n=1&k", "https://h/a?sig=…&n=…&k"},
		{"https://h/a?token=x#frag=y", "https://h/a?token=…"},
		{"https://h/a#frag", "https://h/a"},
		{"https://h?a=b", "https://h?a=…"},
		{"no scheme", "no scheme"},
		{"https://h/\n", "https://h/?"},
		{"", ""},
	};
	char shown[80];
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		download_url_shown(cases[i].url, shown, sizeof(shown));
		assert_string_equal(shown, cases[i].shown);
	}
	download_url_shown("https://a-long-name/", shown, 10);
	assert_int_equal(strlen(shown), 9);
}

static const char *refused(const char *address)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
		return download_address_refused((const struct sockaddr *)(const void *)&v4);
	assert_int_equal(inet_pton(AF_INET6, address, &v6.sin6_addr), 1);
	return download_address_refused((const struct sockaddr *)(const void *)&v6);
}

static void refuses_addresses(void **state)
{
	static const char *const bad[] = {"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254",
		"169.254.0.1", "169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192",
		"224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1",
		"febf::1", "fec0::1", "ff02::1", "fd00:ec2::254", "::ffff:127.0.0.1",
		"::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
		"2002:7f00:1::1", "2002:a9fe:a9fe::"};
	// Documentation addresses: no machine's own.
	static const char *const good[] = {"192.0.2.1", "198.51.100.7", "126.255.255.255",
		"128.0.0.1", "169.253.255.255", "100.100.100.201", "223.255.255.255", "2001:db8::1",
		"::ffff:192.0.2.1", "64:ff9b::c000:201", "2002:c000:201::1", "fc00::1",
		"fd00:ec2::255"};
	const struct sockaddr other = {.sa_family = AF_UNIX};
	(void)state;
	for (size_t i = 0; i < array_size(bad); i++)
		if (!refused(bad[i]))
			fail_msg("%s is not refused", bad[i]);
	for (size_t i = 0; i < array_size(good); i++)
		if (refused(good[i]))
			fail_msg("%s is refused: %s", good[i], refused(good[i]));
	assert_non_null(download_address_refused(&other));
}

static void finds_listed_hosts(void **state)
{
	static const char *items[] = {
		"127.0.0.1:8080", "mirror.example", "::1", "[fe80::1]:9", NULL};
	const struct json_strings hosts = {.items = items, .count = 4};
	static const struct {
		const char *host, *port;
		bool listed;
	} cases[] = {
		{"127.0.0.1", "8080", true},
		{"127.0.0.1", "808", false},
		{"127.0.0.1", "80801", false},
		{"127.0.0.10", "8080", false},
		{"MIRROR.example", "443", true},
		{"mirror.example.org", "443", false},
		{"mirror", "443", false},
		{"[::1]", "80", true},
		{"[fe80::1]", "9", true},
		{"[fe80::1]", "8", false},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++)
		if (download_host_listed(&hosts, cases[i].host, cases[i].port) != cases[i].listed)
			fail_msg("%s:%s", cases[i].host, cases[i].port);
	assert_false(download_host_listed(&(struct json_strings){0}, "a", "1"));
}

static void reads_no_proxy(void **state)
{
	(void)state;
	assert_true(download_proxy_excepted("*", "h"));
	assert_true(download_proxy_excepted("a.example, b.example", "b.example"));
	assert_true(download_proxy_excepted("a,.example.org", "x.Example.org"));
	assert_true(download_proxy_excepted("example.org", "x.example.org"));
	assert_false(download_proxy_excepted("example.org", "notexample.org"));
	assert_false(download_proxy_excepted("", "h"));
	assert_false(download_proxy_excepted(", .", "h"));
}

static void checks_names(void **state)
{
	static const char *const good[] = {"a", "a/b.c", "..a", "a..", ".hidden", "ünï code"};
	static const char *const bad[] = {
		"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b"};
	char longest[300];
	(void)state;
	for (size_t i = 0; i < array_size(good); i++)
		assert_true(prepare_is_name(good[i]));
	for (size_t i = 0; i < array_size(bad); i++)
		assert_false(prepare_is_name(bad[i]));
	memset(longest, 'a', sizeof(longest));
	longest[256] = '\0';
	assert_false(prepare_is_name(longest));
	longest[255] = '\0';
	assert_true(prepare_is_name(longest));
}

static void tells_archives(void **state)
{
	static const struct {
		const char *name, *head;
		size_t size;
		bool is;
	} cases[] = {
		{"a.tar.gz", "\x1f\x8b\x08", 3, true},
		{"A.TGZ", "\x1f\x8b\x08", 3, true},
		{"a.gz", "\x1f\x8b\x08", 3, false},
		{"a.zip", "PK\3\4", 4, true},
		{"a.pt", "PK\3\4", 4, false},
		{"a.zip", "<html", 5, false},
		{"a.tar.zst", "\x28\xb5\x2f\xfd", 4, true},
		{".zip", "PK\3\4", 4, false},
		{"a.zip", "", 0, false},
	};
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_fd int fd = memfd_create("archive", MFD_CLOEXEC);
		assert_int_equal(write(fd, cases[i].head, cases[i].size), (ssize_t)cases[i].size);
		if (unpack_is_archive(cases[i].name, fd) != cases[i].is)
			fail_msg("case %zu: %s", i, cases[i].name);
	}
}

// The thread behind the writer and the end without one give the same, also when begun again.
static void hashes_what_grows(void **state)
{
	static char data[3 * 1024 * 1024 + 17];
	const size_t sizes[] = {0, 1, 100000, sizeof(data)};
	char hex[SHA256_HEX_SIZE], expected[SHA256_HEX_SIZE];
	uint8_t digest[SHA256_SIZE];
	struct error err = {0};
	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 31 + i / 257);
	cleanup_fd int fd = memfd_create("part", MFD_CLOEXEC);
	assert_int_equal(write_all(fd, data, sizeof(data), "part", &err), 0);
	for (size_t i = 0; i < array_size(sizes); i++) {
		struct download_hash h;
		download_hash_init(&h, fd);
		download_hash_advance(&h, sizeof(data));
		download_hash_reset(&h);
		for (size_t n = 0; n < sizes[i]; n += 300000)
			download_hash_advance(&h, n);
		assert_int_equal(download_hash_finish(&h, sizes[i], hex, &err), 0);
		download_hash_release(&h);
		sha256_of(data, sizes[i], digest);
		sha256_hex(digest, expected);
		assert_string_equal(hex, expected);
	}
	struct download_hash h;
	download_hash_init(&h, fd);
	assert_int_equal(download_hash_finish(&h, sizeof(data) + 1, hex, &err), -1);
	download_hash_release(&h);
}

static void knows_validators(void **state)
{
	struct download_part p = {0};
	(void)state;
	assert_null(download_part_validator(&p));
	snprintf(p.last_modified, sizeof(p.last_modified), "Mon, 23 Nov 2026 10:00:00 GMT");
	assert_string_equal(download_part_validator(&p), p.last_modified);
	snprintf(p.etag, sizeof(p.etag), "W/\"1\"");
	assert_string_equal(download_part_validator(&p), p.last_modified);
	snprintf(p.etag, sizeof(p.etag), "\"1\"");
	assert_string_equal(download_part_validator(&p), "\"1\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_urls_without_secrets),
		cmocka_unit_test(refuses_addresses),
		cmocka_unit_test(finds_listed_hosts),
		cmocka_unit_test(reads_no_proxy),
		cmocka_unit_test(checks_names),
		cmocka_unit_test(tells_archives),
		cmocka_unit_test(hashes_what_grows),
		cmocka_unit_test(knows_validators),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
