// SPDX-License-Identifier: Apache-2.0
//
// URLs (RFC 3986) by libcurl's own parser, so that what we check is what curl then connects to.
#pragma once

#include "base/curl.h"
#include "base/error.h"

#include <stdbool.h>

// Where credentials belong: scheme, host and port (RFC 6454). A value type.
struct url_origin {
	char scheme[8], host[256], port[8];
};

// ERROR_INVALID: no URL, another scheme than http and https, a user or password in it.
int url_origin_of(const struct curl_functions *curl, const char *url, struct url_origin *o,
	struct error *err);
bool url_origin_equal(const struct url_origin *a, const struct url_origin *b);

// "localhost", 127.0.0.0/8, ::1: a host as URLs and references write it, [::1] in brackets.
bool url_host_is_loopback(const char *host);

// Where `location` leads from `base`, owned by the caller (free()); NULL with ERROR_INVALID as
// above.
char *url_resolve(const struct curl_functions *curl, const char *base, const char *location,
	struct error *err);
