// SPDX-License-Identifier: Apache-2.0
#include "oci/image/platform.h"

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void normalises(void **state)
{
	static const struct {
		const char *input, *expected;
	} cases[] = {
		{"linux/amd64", "linux/amd64"},
		{"Linux/x86_64", "linux/amd64"},
		{"linux/x86-64", "linux/amd64"},
		{"linux/amd64/v1", "linux/amd64"},
		{"linux/amd64/v3", "linux/amd64/v3"},
		{"linux/arm64", "linux/arm64/v8"},
		{"linux/aarch64", "linux/arm64/v8"},
		{"linux/arm64/8", "linux/arm64/v8"},
		{"linux/arm64/v9.0", "linux/arm64/v9"},
		{"linux/arm", "linux/arm/v7"},
		{"linux/arm/6", "linux/arm/v6"},
		{"linux/armhf", "linux/arm/v7"},
		{"linux/armel", "linux/arm/v6"},
		{"linux/i386", "linux/386"},
		{"linux/riscv64", "linux/riscv64"},
		{"linux/newarch", "linux/newarch"},
		{"macos/arm64", "darwin/arm64/v8"},
		{"windows/amd64", "windows/amd64"},
		{"amd64", "linux/amd64"},
		{"aarch64", "linux/arm64/v8"},
		{"s390x", "linux/s390x"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[OCI_PLATFORM_TEXT_MAX];
		struct oci_platform p;
		struct error err;
		if (oci_platform_parse(cases[i].input, &p, &err) < 0)
			fail_msg("%s", err.text);
		assert_string_equal(oci_platform_format(&p, text), cases[i].expected);
	}
}

static void refuses(void **state)
{
	static const struct {
		const char *input, *expected;
	} cases[] = {
		{"", "platform \"\": a part is empty; expected os/architecture[/variant], such as "
		     "linux/amd64"},
		{"linux/", "a part is empty"},
		{"/amd64", "a part is empty"},
		{"linux/amd64/v1/x", "more than three parts"},
		{"linux/amd 64", "only letters, digits, '_', '.' and '-' are allowed"},
		{"linux/..\n", "only letters, digits, '_', '.' and '-' are allowed"},
		{"nonsense", "neither an architecture nor a system that is known"},
		{"linux/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "longer than 31 characters"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct oci_platform p;
		struct error err;
		if (oci_platform_parse(cases[i].input, &p, &err) == 0)
			fail_msg("accepted %s", cases[i].input);
		assert_int_equal(err.kind, ERROR_INVALID);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s: %s", cases[i].input, err.text);
	}
}

static void knows_host(void **state)
{
	struct oci_platform host = oci_platform_host(), again;
	char text[OCI_PLATFORM_TEXT_MAX];
	struct error err;

	(void)state;
	assert_string_equal(host.os, "linux");
	assert_true(host.architecture[0] != '\0');
	assert_int_equal(oci_platform_parse(oci_platform_format(&host, text), &again, &err), 0);
	assert_true(oci_platform_match(&host, &again) > 0);
	assert_int_equal(oci_platform_parse("linux", &again, &err), 0);
	assert_string_equal(oci_platform_format(&again, text), text);
	assert_string_equal(again.architecture, host.architecture);
#ifdef __x86_64__
	assert_string_equal(host.architecture, "amd64");
#endif
}

static int match(const char *want, const char *have)
{
	struct oci_platform w, h;
	struct error err;

	assert_int_equal(oci_platform_parse(want, &w, &err), 0);
	assert_int_equal(oci_platform_parse(have, &h, &err), 0);
	return oci_platform_match(&w, &h);
}

static void matches(void **state)
{
	static const struct {
		const char *want, *best, *worse; // NULL: none
	} cases[] = {
		{"linux/amd64", "linux/amd64", NULL},
		{"linux/amd64/v3", "linux/amd64/v3", "linux/amd64/v2"},
		{"linux/amd64/v3", "linux/amd64/v2", "linux/amd64/v1"},
		{"linux/arm64", "linux/arm64/v8", NULL},
		{"linux/arm64/v9", "linux/arm64/v9", "linux/arm64"},
		{"linux/arm64/v8.2", "linux/arm64/v8.1", "linux/arm64/v8"},
		{"linux/arm/v7", "linux/arm/v7", "linux/arm/v6"},
		{"linux/arm/v7", "linux/arm", "linux/arm/v6"},
		{"linux/arm/v7", "linux/arm/v6", "linux/arm/v5"},
		{"linux/ppc64le/power9", "linux/ppc64le/power9", "linux/ppc64le"},
	};
	static const struct {
		const char *want, *have, *why;
	} misses[] = {
		{"linux/amd64", "windows/amd64", "another system"},
		{"linux/amd64", "linux/arm64", "another architecture"},
		{"linux/amd64", "linux/amd64/v2", "may use instructions that the host lacks"},
		{"linux/amd64", "linux/386", "another architecture"},
		{"linux/amd64", "linux/amd64/odd", "a variant without a place in the order"},
		{"linux/arm64/v9", "linux/arm64/v8.2.1", "no variant of this form exists"},
		{"linux/amd64/odd", "linux/amd64", "the same the other way round"},
		{"linux/arm/v6", "linux/arm/v7", "higher"},
		{"linux/arm/v6", "linux/arm", "arm alone is v7"},
		{"linux/arm64", "linux/arm/v7", "not every arm64 processor runs 32-bit code"},
		{"linux/riscv64", "linux/riscv64/rva23", "a variant that was not asked for"},
		{"linux/amd64", "unknown/unknown", "an attestation"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int best = match(cases[i].want, cases[i].best);
		int worse = cases[i].worse ? match(cases[i].want, cases[i].worse) : 0;
		if (best <= worse || (cases[i].worse && worse == 0))
			fail_msg("%s: %s %d, %s %d", cases[i].want, cases[i].best, best,
				cases[i].worse ? cases[i].worse : "none", worse);
	}
	for (size_t i = 0; i < sizeof(misses) / sizeof(misses[0]); i++)
		if (match(misses[i].want, misses[i].have) != 0)
			fail_msg(
				"%s serves %s (%s)", misses[i].have, misses[i].want, misses[i].why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(normalises),
		cmocka_unit_test(refuses),
		cmocka_unit_test(knows_host),
		cmocka_unit_test(matches),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
