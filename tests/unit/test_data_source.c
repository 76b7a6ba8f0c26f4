// SPDX-License-Identifier: Apache-2.0
#include "agent/data/source_internal.h"
#include "base/text.h"
#include "base/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int decode(struct arena *a, const char *text, struct data_source *s, struct error *err)
{
	struct json_decoder d = {.arena = a, .document = "x", .positions = true};
	const struct json *tree = yaml_parse(a, text, strlen(text), "x", &json_limits_default, err);
	return tree ? data_source_decode(&d, tree, s, err) : -1;
}

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"

static void decodes_files(void **state)
{
	cleanup_arena struct arena a = {0};
	struct data_source s = {0};
	struct error err = {0};

	(void)state;
	if (decode(&a,
		    "{name: d, kind: http, files: [\"https://h/a\", {url: \"http://h/b\", name: "
		    "x/y, sha256: \"sha256:" HEX "\", size: 1k}], unpack: auto, cache: pinned}",
		    &s, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(s.kind, DATA_HTTP);
	assert_int_equal(s.mode, DATA_DOWNLOAD);
	assert_int_equal(s.file_count, 2);
	assert_null(s.files[0].name);
	assert_string_equal(s.files[1].name, "x/y");
	assert_int_equal(s.files[1].size, 1024);
	assert_string_equal(s.files[1].sha256 + 58, "abcdef");
	assert_int_equal(s.unpack, DATA_UNPACK_AUTO);
	assert_int_equal(s.cache, DATA_CACHE_PINNED);
	assert_int_equal(s.max_seconds, DATA_SECONDS_DEFAULT);
	assert_string_equal(data_source_reference(&s), "/stoker/inputs/d");
}

static void decodes_mounts(void **state)
{
	cleanup_arena struct arena a = {0};
	struct data_source s = {0};
	struct error err = {0};

	(void)state;
	if (decode(&a,
		    "{name: d, kind: cifs, remote: //server/share/a, mode: rw_mount, user: ada, "
		    "password_secret: pw, options: {vers: \"3.1.1\", seal: }, no_exec: true}",
		    &s, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(s.mode, DATA_RW_MOUNT);
	assert_string_equal(s.options.items[0].value, "3.1.1");
	assert_string_equal(s.options.items[1].value, "");
	assert_string_equal(s.password_secret, "pw");
	assert_true(s.no_exec);
}

static void refuses(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{"kind: bind", "kind bind needs path:"},
		{"kind: bind, path: x, mode: direct",
			"mode: kind bind has no mode direct, only: ro_mount, rw_mount, download"},
		{"kind: bind, path: x, url: 'http://h/x'", "url: does not belong to kind bind"},
		{"kind: bind, path: x, writable: true", "does not belong to mode ro_mount"},
		{"kind: bind, path: x, target: /a/../b", "must be below / and have no \"..\""},
		{"kind: bind, path: x, target: /", "must be below /"},
		{"kind: bind, path: x, mode: ro_mount, read_only: true", "is the older word for"},
		{"kind: http", "kind http needs url: or files:"},
		{"kind: http, url: 'http://h/x', files: ['http://h/x']",
			"there are files: already"},
		{"kind: http, url: 'http://h/'", "ends in no name for the file"},
		{"kind: http, url: 'http://h/..'", "ends in no name for the file"},
		{"kind: http, url: 'http://h/%2e%2e'", "ends in no name for the file"},
		{"kind: http, url: 'http://h/a%2fb'", "ends in no name for the file"},
		{"kind: http, files: ['http://h/a', 'http://i/a?x']", "two files would be at a;"},
		{"kind: http, files: [{url: 'http://h/x', name: a}, {url: 'http://h/x', name: "
		 "a-b}, {url: 'http://h/x', name: a/b}]",
			"two files would be at a;"},
		{"kind: http, files: [{url: 'http://h/x', name: a/../b}]",
			"files[0].name: must be a path below the target"},
		{"kind: http, files: [{url: 'http://h/x', name: /a}]", "must be a path below"},
		{"kind: http, files: ['http://h/x'], sha256: " HEX, "belongs beside the url:"},
		{"kind: http, mode: direct, files: ['http://h/x', 'http://h/y']",
			"hands on one address only"},
		{"kind: http, url: 'ftp://h/x'", "must begin with http:// or https://"},
		{"kind: http, url: 'https://u:p@h/x'", "must not have a user or password"},
		{"kind: http, url: 'https://h/x y'", "write %20 for a space"},
		{"kind: http, url: 'https://h:0/x'", "has no valid host"},
		{"kind: http, url: 'https://[x]/x'", "has no valid host"},
		{"kind: http, url: 'https://h/x', sha256: 12", "must be a string"},
		{"kind: http, url: 'https://h/x', sha256: abc", "64 hexadecimal digits"},
		{"kind: oci, reference: 'a b'", "reference: "},
		{"kind: fuse, remote: x", "kind fuse needs profile:"},
		{"kind: fuse, profile: rclone", "profile rclone needs remote:"},
		{"kind: fuse, profile: rclone, remote: /etc", "of the form remote:path"},
		{"kind: fuse, profile: s3fs, remote: -o", "must not begin with '-'"},
		{"kind: fuse, profile: s3fs, remote: b, options: {--x: 1}", "without \"--\""},
		{"kind: fuse, profile: s3fs, remote: b, options: {a: 1.5}", "put it in quotes"},
		{"kind: fuse, profile: custom, command: [x]", "with {mountpoint} or {fd} in it"},
		{"kind: fuse, profile: s3fs, remote: b, command: [x]", "profile custom only"},
		{"kind: nfs, remote: 'server'", "must be of the form server:/export"},
		{"kind: nfs, remote: ':/x'", "must be of the form server:/export"},
		{"kind: nfs, remote: 's:/x,suid'", "without commas"},
		{"kind: nfs, remote: 's:/x', options: {vers: '4,suid'}", "must not have a comma"},
		{"kind: nfs, remote: 's:/x', options: {'a,b': ''}", "must not have a comma"},
		{"kind: nfs, remote: 's:/x', options: {addr: x}", "addr is set by the node"},
		{"kind: cifs, remote: //s/x, options: {password: x}",
			"password_secret: are the keys"},
		{"kind: cifs, remote: //s/x, options: {PASS: x}", "is set by the node"},
		{"kind: cifs, remote: /s/x", "must be of the form //server/share"},
		{"kind: cifs, remote: //s", "must be of the form //server/share"},
		{"kind: cifs, remote: //s/x, user: 'a,b'", "user: must not have a comma"},
		{"kind: cifs, remote: //s/x, password_secret: x", "needs a user:"},
		{"kind: fsimage, url: 'http://h/x'", "needs its sha256:"},
		{"kind: fsimage, path: x, sha256: " HEX, "belongs to url:, not to path:"},
		{"kind: inline", "kind inline needs content:"},
		{"kind: inline, content: 1", "content: must be a string; put it in quotes"},
		{"kind: inline, content: x, max_bytes: 0", "must be a size over 0"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		cleanup_free char *text = xasprintf("{name: a, %s}", cases[i].text);
		struct data_source s = {0};
		struct error err = {0};
		if (decode(&a, text, &s, &err) == 0)
			fail_msg("accepted %s", cases[i].text);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s: %s", cases[i].text, err.text);
	}
}

static void names_files_by_their_address(void **state)
{
	static const struct {
		const char *url, *name;
	} cases[] = {
		{"https://h/a/b.bin", "b.bin"},
		{"https://h/a/b.bin?x=/y#z", "b.bin"},
		{"https://h/a%20b", "a b"},
		{"https://h/a%", "a%"},
		{"https://h/a%00b", NULL},
		{"https://h/%2E", NULL},
		{"https://h/a/", NULL},
		{"https://h", NULL},
		{"https://h?a/b", NULL},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_arena struct arena a = {0};
		const char *name = source_url_name(&a, cases[i].url);
		if (!name != !cases[i].name || (name && !streq(name, cases[i].name)))
			fail_msg("%s: %s", cases[i].url, name ? name : "none");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decodes_files),
		cmocka_unit_test(decodes_mounts),
		cmocka_unit_test(refuses),
		cmocka_unit_test(names_files_by_their_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
