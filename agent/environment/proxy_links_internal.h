// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/environment/proxy_links.h"

#include <stdbool.h>

struct package_span { // of the document
	size_t at, size;
};

int package_links_html(const char *text, size_t size, package_link_fn *fn, void *data);
int package_links_json(const char *text, size_t size, package_link_fn *fn, void *data);

// 64 hexadecimal digits at `text`, lower-case into `hex`; false and "" if they are not there.
bool package_link_hash(const char *text, size_t size, char hex[65]);
// Nothing that has no place in an address?
bool package_link_plain(const char *url, size_t size);
