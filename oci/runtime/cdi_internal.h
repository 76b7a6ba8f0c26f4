// SPDX-License-Identifier: Apache-2.0
//
// Between the files of cdi.h: cdi_name.c (names), cdi_decode.c (one document), cdi.c (folders,
// look-up), cdi_apply.c (edits).
#pragma once

#include "oci/runtime/cdi.h"

struct cdi_document { // one file, decoded
	struct cdi_file file;
	struct cdi_device *devices; // `file` not yet set
	size_t count;
};

// Decode into the arena. Errors read "name:line:column: place: …".
int cdi_decode(struct arena *a, const char *data, size_t size, const char *name,
	struct cdi_document *document, struct error *err);

// "vendor.com/class": a DNS-like vendor, a slash, a class.
bool cdi_kind_valid(const char *kind, size_t length);
// The part behind '='.
bool cdi_unit_valid(const char *unit);
// strcmp(3) with runs of digits by value: "gpu=2" before "gpu=10".
int cdi_name_compare(const char *a, const char *b);
