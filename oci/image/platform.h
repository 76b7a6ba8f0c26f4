// SPDX-License-Identifier: Apache-2.0
//
// Platforms (OCI image-index, "platform"): os, architecture and variant in Go's words, normalised
// as containerd does (x86_64 -> amd64, aarch64 -> arm64/v8, armhf -> arm/v7).
#pragma once

#include "base/error.h"

#include <stdbool.h>

enum { OCI_PLATFORM_TEXT_MAX = 100 };

struct oci_platform {
	char os[32], architecture[32], variant[32]; // variant may be ""
};

// "linux/arm64", "linux/arm/v7", "arm64" (os of this machine). ERROR_INVALID otherwise.
int oci_platform_parse(const char *s, struct oci_platform *p, struct error *err);
// Puts names of other origin into Go's words, in place: case, x86_64, aarch64, armhf, "8" for "v8",
// and the default variants: arm is arm/v7, arm64 is arm64/v8, amd64/v1 is amd64. Parsing and
// matching do it themselves.
void oci_platform_normalise(struct oci_platform *p);
// This machine's, from uname(2).
struct oci_platform oci_platform_host(void);
const char *oci_platform_format(const struct oci_platform *p, char text[OCI_PLATFORM_TEXT_MAX]);
// How well `have` serves `want`: 0 not at all, higher is better (exact variant > lower variant that
// the architecture can run > none given).
int oci_platform_match(const struct oci_platform *want, const struct oci_platform *have);
