// SPDX-License-Identifier: Apache-2.0
#include "oci/image/reference.h"

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define HEX    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define DIGEST "sha256:" HEX

static void completes_references(void **state)
{
	static const struct {
		const char *input, *complete, *familiar;
	} cases[] = {
		{"python", "docker.io/library/python:latest", "python:latest"},
		{"python:3.12", "docker.io/library/python:3.12", "python:3.12"},
		{"library/python", "docker.io/library/python:latest", "python:latest"},
		{"continuumio/miniconda", "docker.io/continuumio/miniconda:latest",
			"continuumio/miniconda:latest"},
		{"docker.io/python", "docker.io/library/python:latest", "python:latest"},
		{"index.docker.io/a/b:c", "docker.io/a/b:c", "a/b:c"},
		{"index.docker.io/a", "docker.io/library/a:latest", "a:latest"},
		{"a/b/c", "docker.io/a/b/c:latest", "a/b/c:latest"},
		{"mcr.microsoft.com/azureml/base:0.2.4", "mcr.microsoft.com/azureml/base:0.2.4",
			"mcr.microsoft.com/azureml/base:0.2.4"},
		{"localhost/x", "localhost/x:latest", "localhost/x:latest"},
		{"localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"},
		{"localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"},
		{"localhost", "docker.io/library/localhost:latest", "localhost:latest"},
		{"127.0.0.1:5000/a/b:v1", "127.0.0.1:5000/a/b:v1", "127.0.0.1:5000/a/b:v1"},
		{"[::1]:5000/a:b", "[::1]:5000/a:b", "[::1]:5000/a:b"},
		{"[2001:db8::1]/a", "[2001:db8::1]/a:latest", "[2001:db8::1]/a:latest"},
		{"HOST/x", "HOST/x:latest", "HOST/x:latest"},
		{"a_b/c__d/e-f/g---h.i", "docker.io/a_b/c__d/e-f/g---h.i:latest",
			"a_b/c__d/e-f/g---h.i:latest"},
		{"x:_Tag.1-2", "docker.io/library/x:_Tag.1-2", "x:_Tag.1-2"},
		{"x@" DIGEST, "docker.io/library/x@" DIGEST, "x@" DIGEST},
		{"x:1@" DIGEST, "docker.io/library/x:1@" DIGEST, "x:1@" DIGEST},
		{"localhost:5000/x@" DIGEST, "localhost:5000/x@" DIGEST,
			"localhost:5000/x@" DIGEST},
		{"docker.io/localhost/x", "docker.io/localhost/x:latest",
			"docker.io/localhost/x:latest"},
		{"docker.io/a.b/x", "docker.io/a.b/x:latest", "docker.io/a.b/x:latest"},
		{"docker.io/library/a.b/x", "docker.io/library/a.b/x:latest",
			"library/a.b/x:latest"},
		{"a/" HEX, "docker.io/a/" HEX ":latest", "a/" HEX ":latest"},
		{HEX ":1", "docker.io/library/" HEX ":1", HEX ":1"},
		{"e3b0c442", "docker.io/library/e3b0c442:latest", "e3b0c442:latest"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[OCI_REFERENCE_TEXT_MAX];
		struct oci_reference r, again;
		struct error err;
		if (oci_reference_parse(cases[i].input, &r, &err) < 0)
			fail_msg("%s", err.text);
		assert_string_equal(oci_reference_format(&r, text), cases[i].complete);
		assert_int_equal(oci_reference_parse(text, &again, &err), 0);
		assert_memory_equal(&again, &r, sizeof(r));
		assert_string_equal(oci_reference_familiar(&r, text), cases[i].familiar);
		assert_int_equal(oci_reference_parse(text, &again, &err), 0);
		assert_memory_equal(&again, &r, sizeof(r));
	}
}

static void splits_parts(void **state)
{
	struct oci_reference r;
	struct error err;

	(void)state;
	assert_int_equal(oci_reference_parse("localhost:5000/a/b:v1@" DIGEST, &r, &err), 0);
	assert_string_equal(r.domain, "localhost:5000");
	assert_string_equal(r.path, "a/b");
	assert_string_equal(r.tag, "v1");
	assert_string_equal(r.digest.text, DIGEST);
	assert_string_equal(oci_reference_target(&r), DIGEST);

	assert_int_equal(oci_reference_parse("a@" DIGEST, &r, &err), 0);
	assert_string_equal(r.tag, "");
	assert_int_equal(oci_reference_parse("a", &r, &err), 0);
	assert_string_equal(r.digest.text, "");
	assert_string_equal(oci_reference_target(&r), "latest");
}

static void refuses_with_position(void **state)
{
	static const struct {
		const char *input, *expected;
	} cases[] = {
		{"", "image \"\": the reference is empty (position 1)"},
		{"Foo", "image \"Foo\": the repository name must be lower case (position 1)"},
		{"Foo/Bar",
			"image \"Foo/Bar\": the repository name must be lower case (position 5)"},
		{"foo/bAr:x",
			"image \"foo/bAr:x\": the repository name must be lower case (position 6)"},
		{"a b", "image \"a b\": a reference holds no spaces (position 2)"},
		{"python\n", "image \"python?\": a reference holds no spaces (position 7)"},
		{"https://ghcr.io/a", "leave out the scheme: registry/repository:tag (position 1)"},
		{"docker://a", "leave out the scheme: registry/repository:tag (position 1)"},
		{HEX, "64 hexadecimal digits are an image id, not a name"},
		{"a//b", "the repository name has an empty part (position 3)"},
		{"/a", "the repository name has an empty part (position 1)"},
		{"a/", "the repository name has an empty part (position 3)"},
		{"ghcr.io/", "the repository name has an empty part (position 9)"},
		{":x", "the repository name has an empty part (position 1)"},
		{"@" DIGEST, "the repository name has an empty part (position 1)"},
		{"-a", "parts of the repository name begin and end with a letter or digit "
		       "(position 1)"},
		{"a-", "parts of the repository name begin and end with a letter or digit "
		       "(position 3)"},
		{"a/.b", "parts of the repository name begin and end with a letter or digit "
			 "(position 3)"},
		{"a..b", "only '.', '_', '__' or a run of '-' separates"},
		{"a___b", "only '.', '_', '__' or a run of '-' separates"},
		{"a._b", "only '.', '_', '__' or a run of '-' separates"},
		{"a-_b", "only '.', '_', '__' or a run of '-' separates"},
		{"a*b", "may hold only a-z, 0-9, '.', '_', '-' and '/' (position 2)"},
		{"../../etc", "the registry's name has an empty part (position 1)"},
		{"a/../b", "parts of the repository name begin and end with a letter or digit "
			   "(position 3)"},
		{"p\xc3\xbcthon", "may hold only a-z, 0-9, '.', '_', '-' and '/' (position 2)"},
		{"a:", "the tag behind ':' is empty (position 3)"},
		{"a:.b", "the tag must begin with a letter, a digit or '_' (position 3)"},
		{"a:b$c", "the tag may hold only letters, digits, '_', '.' and '-' (position 4)"},
		{"a:b:c", "may hold only a-z, 0-9, '.', '_', '-' and '/' (position 2)"},
		{"a@sha256:12", "\"sha256:12\" is not a digest: expected sha256: and 64"},
		{"a@", "\"\" is not a digest"},
		{"a@sha512:12", "is a sha512 digest: only sha256 is supported (position 3)"},
		{"a@" DIGEST "@" DIGEST, "is not a digest"},
		{"a:b/c", "the registry's port must be a number from 1 to 65535 (position 3)"},
		{"a:/c", "the registry's port must be a number from 1 to 65535 (position 3)"},
		{"a:0/c", "the registry's port must be a number from 1 to 65535"},
		{"a:65536/c", "the registry's port must be a number from 1 to 65535"},
		{"-a.b/c", "must not begin or end with '-' (position 1)"},
		{"a.b-/c", "must not begin or end with '-' (position 3)"},
		{"a..b/c", "the registry's name has an empty part (position 3)"},
		{"a_b.c/d", "the registry's name may hold only letters, digits, '-' and '.' "
			    "(position 2)"},
		{"[::1/a", "']' is missing behind the IPv6 address (position 1)"},
		{"[::g]/a",
			"an IPv6 address may hold only hexadecimal digits and ':' (position 4)"},
		{"[1:2]/a", "not an IPv6 address (position 2)"},
		{"[:::::::::::::::::::::::::::::::::::::::::::::::::::::]/a",
			"not an IPv6 address (position 2)"},
		{"[::1]5000/a", "only ':' and a port may follow the IPv6 address (position 6)"},
		{"[::1]:/a", "the registry's port must be a number from 1 to 65535 (position 7)"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct oci_reference r;
		struct error err;
		if (oci_reference_parse(cases[i].input, &r, &err) == 0)
			fail_msg("accepted %s", cases[i].input);
		assert_int_equal(err.kind, ERROR_INVALID);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s: %s", cases[i].input, err.text);
	}
}

// `n` letters between two texts.
static int parse_long(
	const char *before, size_t n, const char *after, struct oci_reference *r, struct error *err)
{
	char text[2000];
	int length = snprintf(text, sizeof(text), "%s", before);

	memset(text + length, 'a', n);
	snprintf(text + length + n, sizeof(text) - (size_t)length - n, "%s", after);
	return oci_reference_parse(text, r, err);
}

static void bounds_lengths(void **state)
{
	static const struct {
		const char *before;
		size_t most;
		const char *after, *expected;
	} cases[] = {
		{"x/", OCI_PATH_MAX - 2, "", "the repository name is longer than 255 characters"},
		{"", OCI_PATH_MAX - 8, "", "the repository name is longer than 255 characters"},
		{"x.y/", OCI_PATH_MAX, "", "the repository name is longer than 255 characters"},
		{"", OCI_DOMAIN_MAX - 5, ":5000/x", "the registry's name is longer than 255"},
		{"x:", OCI_TAG_MAX, "", "the tag is longer than 128 characters"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[OCI_REFERENCE_TEXT_MAX];
		struct oci_reference r;
		struct error err;
		if (parse_long(cases[i].before, cases[i].most, cases[i].after, &r, &err) < 0)
			fail_msg("%s", err.text);
		assert_int_equal(oci_reference_parse(oci_reference_format(&r, text), &r, &err), 0);
		assert_int_equal(
			parse_long(cases[i].before, cases[i].most + 1, cases[i].after, &r, &err),
			-1);
		assert_non_null(strstr(err.text, cases[i].expected));
	}
}

static void bounds_whole(void **state)
{
	struct oci_reference r;
	struct error err;

	(void)state;
	assert_int_equal(parse_long("", 1500, "", &r, &err), -1);
	assert_non_null(strstr(err.text, "the reference is longer than 799 characters"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(completes_references),
		cmocka_unit_test(splits_parts),
		cmocka_unit_test(refuses_with_position),
		cmocka_unit_test(bounds_lengths),
		cmocka_unit_test(bounds_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
