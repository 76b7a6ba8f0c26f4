// SPDX-License-Identifier: Apache-2.0
//
// Image references as Docker writes them (distribution/reference grammar):
//   [domain[:port]/]path[:tag][@sha256:…]
// Short names are completed: "python" is docker.io/library/python:latest, "continuumio/miniconda"
// is docker.io/continuumio/miniconda:latest. A first component is a domain when it holds '.' or
// ':', is "localhost", or has upper-case letters.
#pragma once

#include "base/error.h"
#include "oci/image/digest.h"

enum { OCI_DOMAIN_MAX = 255, OCI_PATH_MAX = 255, OCI_TAG_MAX = 128, OCI_REFERENCE_TEXT_MAX = 800 };

// A value type.
struct oci_reference {
	char domain[OCI_DOMAIN_MAX + 1]; // "docker.io", "localhost:5000", "[::1]:5000"
	char path[OCI_PATH_MAX + 1];	 // "library/python"
	char tag[OCI_TAG_MAX + 1];	 // "" if only a digest was given; "latest" if neither was
	struct oci_digest digest;	 // text[0] == 0 if none
};

// Fails with ERROR_INVALID, the text naming the reference, the position and the rule broken.
int oci_reference_parse(const char *s, struct oci_reference *r, struct error *err);

// The complete form: "docker.io/library/python:latest@sha256:…". Returns `text`.
const char *oci_reference_format(const struct oci_reference *r, char text[OCI_REFERENCE_TEXT_MAX]);
// What people type: without "docker.io/", "library/"; the tag stays.
const char *oci_reference_familiar(
	const struct oci_reference *r, char text[OCI_REFERENCE_TEXT_MAX]);
// What stands behind /manifests/ in a registry URL: the digest if there is one, else the tag.
const char *oci_reference_target(const struct oci_reference *r);
