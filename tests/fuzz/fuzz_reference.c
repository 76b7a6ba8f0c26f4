// SPDX-License-Identifier: Apache-2.0
// References and platforms as people type them. What is accepted must read back as the same from
// both of its written forms.
#include "base/memory.h"
#include "base/text.h"
#include "oci/image/platform.h"
#include "oci/image/reference.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool condition)
{
	if (!condition)
		abort();
}

static void expect_reads_back(const char *text, const struct oci_reference *r)
{
	struct oci_reference again;
	struct error err;

	expect(oci_reference_parse(text, &again, &err) == 0);
	expect(streq(again.domain, r->domain) && streq(again.path, r->path));
	expect(streq(again.tag, r->tag) && oci_digest_equal(&again.digest, &r->digest));
}

static void try_reference(const char *s)
{
	char text[OCI_REFERENCE_TEXT_MAX];
	struct oci_reference r;
	struct error err = {0};

	if (oci_reference_parse(s, &r, &err) < 0) {
		expect(err.kind == ERROR_INVALID && err.text[0]);
		return;
	}
	expect(oci_reference_target(&r)[0] != '\0');
	expect_reads_back(oci_reference_format(&r, text), &r);
	expect_reads_back(oci_reference_familiar(&r, text), &r);
}

static void try_platform(const char *s)
{
	char text[OCI_PLATFORM_TEXT_MAX], other[OCI_PLATFORM_TEXT_MAX];
	struct oci_platform p, again;
	struct error err = {0};

	if (oci_platform_parse(s, &p, &err) < 0) {
		expect(err.kind == ERROR_INVALID && err.text[0]);
		return;
	}
	oci_platform_format(&p, text);
	expect(oci_platform_parse(text, &again, &err) == 0);
	expect(streq(oci_platform_format(&again, other), text));
	expect(oci_platform_match(&p, &again) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char cleanup_free *s = xmalloc(size + 1);

	memcpy(s, data, size);
	s[size] = '\0';
	try_reference(s);
	try_platform(s);
	return 0;
}
