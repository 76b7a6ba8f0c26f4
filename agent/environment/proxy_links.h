// SPDX-License-Identifier: Apache-2.0
//
// The links of package indexes: pages of PEP 503 (HTML) and PEP 691 (JSON), and the repodata.json
// of conda channels. A document is foreign bytes of any size in memory that is only read; nothing
// is taken for it but what one address needs.
#pragma once

#include "base/buffer.h"

#include <stddef.h>

enum { PACKAGE_LINK_MAX = 4096, PACKAGE_LINK_DEPTH_MAX = 64 };

enum package_document { PACKAGE_HTML, PACKAGE_JSON };

enum package_link_kind {
	PACKAGE_LINK_ADDRESS, // of a file or page
	PACKAGE_LINK_BASE,    // what the others are relative to, from here on
	PACKAGE_LINK_NAME, // a file's name below the base: nothing to rewrite, but its hash is told
};

struct package_link {
	enum package_link_kind kind;
	size_t offset, size; // as it is written in the document, without quotes; NAME: 0, 0
	const char *url;     // decoded; no control characters
	char sha256[65];     // which the document promises, lower-case; "": none
};

typedef void package_link_fn(void *data, const struct package_link *link);

// Each link, in the order of the document (offsets rise, NAMEs aside). Links that are longer than
// PACKAGE_LINK_MAX or hold control characters are left out. -1: the document is not well-formed, or
// too deep; what was found until there has been told.
int package_links_find(
	enum package_document kind, const char *text, size_t size, package_link_fn *fn, void *data);

// An address as it stands between the quotes of such a document.
void package_link_write(struct buffer *out, enum package_document kind, const char *url);
