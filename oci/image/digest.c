// SPDX-License-Identifier: Apache-2.0
#include "oci/image/digest.h"

#include "base/text.h"

enum { PREFIX_SIZE = 7, HEX_SIZE = 64 }; // "sha256:" and the digits

static const char prefix[PREFIX_SIZE + 1] = "sha256:";

int oci_digest_parse(const char *s, struct oci_digest *d, struct error *err)
{
	if (starts_with(s, "sha384:") || starts_with(s, "sha512:") || starts_with(s, "blake3:"))
		return error_set(err, ERROR_INVALID,
			"\"%.100s\" is a %.6s digest: only sha256 is supported", s, s);

	size_t digits = 0;
	if (starts_with(s, prefix))
		digits = strspn(s + PREFIX_SIZE, "0123456789abcdef");
	if (digits != HEX_SIZE || s[PREFIX_SIZE + HEX_SIZE] != '\0')
		return error_set(err, ERROR_INVALID,
			"\"%.100s\" is not a digest: expected sha256: and 64 hexadecimal digits "
			"(lower case)",
			s);

	memcpy(d->text, s, sizeof(d->text));
	return 0;
}

struct oci_digest oci_digest_of(const void *data, size_t size)
{
	uint8_t sha256[SHA256_SIZE];

	sha256_of(data, size, sha256);
	return oci_digest_from_sha256(sha256);
}

struct oci_digest oci_digest_from_sha256(const uint8_t sha256[SHA256_SIZE])
{
	struct oci_digest d;

	memcpy(d.text, prefix, PREFIX_SIZE);
	sha256_hex(sha256, d.text + PREFIX_SIZE);
	return d;
}

bool oci_digest_equal(const struct oci_digest *a, const struct oci_digest *b)
{
	return streq(a->text, b->text);
}

const char *oci_digest_hex(const struct oci_digest *d)
{
	return d->text[0] ? d->text + PREFIX_SIZE : d->text;
}
