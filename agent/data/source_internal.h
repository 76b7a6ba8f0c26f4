// SPDX-License-Identifier: Apache-2.0
//
// Between source.c, which decodes an input, and source_check.c, which says whether its parts go
// together.
#pragma once

#include "agent/data/source.h"

// One entry as it stands in the document; `s` becomes the caller's.
struct source_entry {
	struct data_source s;
	enum data_mode mode, older_mode; // of mode: and of read_only:
	const char *url, *sha256;	 // of a single file
	uint64_t size;
};

// Fills in what follows from the kind (mode, files), too.
int source_check(struct json_decoder *d, const struct json *value, struct source_entry *entry,
	struct error *err);
// May a file have this name below a folder: "a/b.bin"?
bool source_name_ok(const char *name);
// What a URL's file is called; NULL: nothing that fits.
const char *source_url_name(struct arena *a, const char *url);
