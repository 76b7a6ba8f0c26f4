// SPDX-License-Identifier: Apache-2.0
//
// Content digests (OCI image-spec, descriptor.md#digests): "sha256:" and 64 lower-case hexadecimal
// digits. SHA-256 is the one algorithm we verify; others are refused by name.
#pragma once

#include "base/error.h"
#include "base/sha256.h"

#include <stdbool.h>

enum { OCI_DIGEST_SIZE = 7 + 64 + 1 };

// A value type; text[0] == '\0' means none.
struct oci_digest {
	char text[OCI_DIGEST_SIZE]; // "sha256:…"
};

// Fails with ERROR_INVALID: "… is not a digest: expected sha256: and 64 hexadecimal digits".
int oci_digest_parse(const char *s, struct oci_digest *d, struct error *err);
struct oci_digest oci_digest_of(const void *data, size_t size);
struct oci_digest oci_digest_from_sha256(const uint8_t sha256[SHA256_SIZE]);
bool oci_digest_equal(const struct oci_digest *a, const struct oci_digest *b);
// The 64 digits behind "sha256:".
const char *oci_digest_hex(const struct oci_digest *d);
